"""install() and uninstall() under other code, imported before and after."""

import importlib
import sys

import pytest
import torch
from other_code import BASICSR, MMCV, NVLABS, ROSINALITY, write

from stylegan_ops.compat import basicsr, mmcv, nvlabs, rosinality

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("clean_imports")]
FAMILIES = {"nvlabs": (nvlabs, NVLABS), "rosinality": (rosinality, ROSINALITY), "mmcv": (mmcv, MMCV), "basicsr": (basicsr, BASICSR)}
TORCH_UTILS = ("bias_act", "conv2d_gradfix", "conv2d_resample", "filtered_lrelu", "fma", "grid_sample_gradfix", "upfirdn2d")


def on_path(tmp_path, files) -> None:
    sys.path.insert(0, str(write(tmp_path, files)))


def loaded() -> dict[str, dict]:
    """Every module outside the standard library and torch, with what it holds."""
    wanted = ("torch_utils", "training", "op", "model", "mmcv", "editor", "basicsr")
    return {name: dict(vars(module)) for name, module in sys.modules.items() if name.split(".")[0] in wanted}


# Without their code


def test_every_name_is_there_where_their_code_is_not():
    nvlabs.install()
    for name in TORCH_UTILS:
        assert sys.modules[f"torch_utils.ops.{name}"] is getattr(nvlabs, name)
        assert importlib.import_module(f"torch_utils.ops.{name}") is getattr(nvlabs, name)
    import torch_utils.ops.bias_act
    from torch_utils import custom_ops
    from torch_utils.ops import upfirdn2d
    from torch_utils.ops.fma import fma

    assert torch_utils.ops.bias_act is nvlabs.bias_act and custom_ops is nvlabs.custom_ops
    assert upfirdn2d is nvlabs.upfirdn2d and fma is nvlabs.fma.fma
    with pytest.raises(ModuleNotFoundError, match=r"torch_utils\.misc"):
        importlib.import_module("torch_utils.misc")


def test_the_names_of_the_other_families():
    for package in (rosinality, mmcv, basicsr):
        package.install()
    import op.conv2d_gradfix
    from basicsr.ops.fused_act import FusedLeakyReLU, fused_leaky_relu
    from basicsr.ops.upfirdn2d import upfirdn2d
    from op.fused_act import FusedLeakyReLU as LayerOfOp
    from op.upfirdn2d import upfirdn2d as upfirdn2d_of_op

    assert op.conv2d_gradfix is rosinality.conv2d_gradfix
    assert (op.FusedLeakyReLU, op.fused_leaky_relu, op.upfirdn2d) == (LayerOfOp, rosinality.fused_leaky_relu, upfirdn2d_of_op)
    assert (FusedLeakyReLU, fused_leaky_relu, upfirdn2d) == (basicsr.FusedLeakyReLU, basicsr.fused_leaky_relu, basicsr.upfirdn2d)
    names = "bias_act conv2d conv_transpose2d filter2d filtered_lrelu fused_bias_leakyrelu FusedBiasLeakyReLU upfirdn2d upsample2d"
    ops = importlib.import_module("mmcv.ops")
    assert {name: getattr(ops, name) for name in names.split()} == {name: getattr(mmcv, name) for name in names.split()}
    assert not hasattr(ops, "downsample2d")
    assert importlib.import_module("mmcv.ops.upfirdn2d").downsample2d is mmcv.downsample2d
    assert importlib.import_module("mmcv.ops.conv2d_gradfix").conv2d is mmcv.conv2d


@pytest.mark.parametrize("family", FAMILIES)
def test_uninstall_leaves_nothing(family):
    package, _ = FAMILIES[family]
    before = dict(sys.modules)
    for _ in range(2):
        package.install()
        package.install()
        assert sys.modules != before
        package.uninstall()
        assert sys.modules == before
        package.uninstall()


# With their code


def test_install_before_nvlabs_code(tmp_path):
    on_path(tmp_path, NVLABS)
    nvlabs.install()
    import torch_utils.persistence
    from torch_utils.ops import special
    from training import networks

    assert torch_utils.__file__ == str(tmp_path / "torch_utils" / "__init__.py")
    assert torch_utils.misc.params_and_buffers and special.ours is False
    assert networks.bias_act is nvlabs.bias_act
    grads = networks.r1_step()
    assert all(torch.isfinite(grad).all() for grad in grads) and grads[0].abs().sum() > 0
    assert nvlabs.conv2d_gradfix.enabled is True  # as the script assigned it
    nvlabs.conv2d_gradfix.enabled = False
    nvlabs.uninstall()
    assert networks.bias_act is nvlabs.bias_act  # what was imported in between keeps it
    assert importlib.import_module("torch_utils.ops.bias_act").bias_act() == torch_utils.ops.bias_act.bias_act() == "theirs"


def test_install_after_nvlabs_code(tmp_path):
    files = {name: text for name, text in NVLABS.items() if name != "training/networks.py"}
    user = ["from torch_utils.ops import bias_act, upfirdn2d", "from torch_utils.ops.upfirdn2d import upsample2d"]
    on_path(tmp_path, files | {"training/user.py": "\n".join([*user, "import torch_utils.ops.conv2d_gradfix"])})
    from torch_utils.ops import bias_act as theirs
    from torch_utils.ops import conv2d_gradfix as their_gradfix
    from training import user

    assert user.upsample2d() == user.bias_act.bias_act() == "theirs"
    before, torchs = loaded(), torch.nn.functional.conv2d
    nvlabs.install()
    assert user.bias_act is nvlabs.bias_act and user.upfirdn2d is nvlabs.upfirdn2d
    assert user.upsample2d is nvlabs.upfirdn2d.upsample2d
    assert user.torch_utils.ops.conv2d_gradfix is nvlabs.conv2d_gradfix
    assert theirs.bias_act is nvlabs.bias_act.bias_act  # whoever holds the module itself reaches ours, too
    assert theirs.misc is sys.modules["torch_utils.misc"] and theirs.misc.params_and_buffers
    assert torch.nn.functional.conv2d is torchs and their_gradfix.conv2d is torchs  # what is torch's stays
    nvlabs.uninstall()
    assert loaded() == before
    assert user.upsample2d() == user.bias_act.bias_act() == "theirs"


def test_install_before_rosinality_code(tmp_path):
    on_path(tmp_path, ROSINALITY)
    rosinality.install()
    import model
    from op import extra

    assert extra.here and model.FusedLeakyReLU is rosinality.FusedLeakyReLU
    grads = model.r1_step()
    assert all(torch.isfinite(grad).all() for grad in grads) and grads[1].abs().sum() > 0
    rosinality.uninstall()
    assert model.FusedLeakyReLU is sys.modules["op"].FusedLeakyReLU is rosinality.FusedLeakyReLU


def test_install_after_rosinality_code(tmp_path):
    on_path(tmp_path, ROSINALITY)
    import model

    layer, before = model.FusedLeakyReLU(2), loaded()
    assert model.upfirdn2d() == layer(None) == "theirs"
    rosinality.install()
    assert model.FusedLeakyReLU is rosinality.FusedLeakyReLU
    assert model.conv2d_gradfix is rosinality.conv2d_gradfix
    assert all(torch.isfinite(grad).all() for grad in model.r1_step())
    x = torch.randn(2, 2, 3, 3)
    torch.testing.assert_close(layer(x), rosinality.FusedLeakyReLU(2)(x))  # a layer that exists computes with ours
    rosinality.uninstall()
    assert loaded() == before and layer(None) == "theirs"


@pytest.mark.parametrize("when", ["before", "after"])
def test_mmcv_keeps_its_other_ops(tmp_path, when):
    on_path(tmp_path, MMCV)
    if when == "after":
        ops = importlib.import_module("mmcv.ops")
        torchs, before = ops.conv2d, loaded()
    mmcv.install()
    editor = importlib.import_module("editor")
    assert editor.run() == (1, 2, 4, 4)
    assert editor.bias_act is mmcv.bias_act and editor.conv2d is mmcv.conv2d
    if when == "after":
        mmcv.uninstall()
        del sys.modules["editor"]
        assert loaded() == before and ops.conv2d is torchs


def test_mmcv_without_compiled_ops(tmp_path):
    on_path(tmp_path, MMCV | {"mmcv/ops/__init__.py": "from ._ext import everything\n"})
    mmcv.install()
    from mmcv.ops import nms
    from mmcv.ops.bias_act import bias_act

    assert bias_act is mmcv.bias_act and nms.nms() == "theirs"


def test_basicsr_that_imports_its_archs_itself(tmp_path):
    on_path(tmp_path, BASICSR)
    basicsr.install()
    arch = importlib.import_module("basicsr").arch
    assert arch.run().shape == (1, 2, 12, 12)


# Where things lie elsewhere, come late or fail


def test_a_fork_that_moved_the_folder(tmp_path):
    on_path(tmp_path, {f"models/stylegan2/{name}": text for name, text in ROSINALITY.items()})
    before = dict(sys.modules)
    rosinality.install("models.stylegan2.op")
    from models.stylegan2.op import FusedLeakyReLU, extra

    assert FusedLeakyReLU is rosinality.FusedLeakyReLU and extra.here and "op" not in sys.modules
    rosinality.uninstall("models.stylegan2.op")
    assert "models.stylegan2.op.fused_act" not in sys.modules
    del sys.modules["models.stylegan2.op.extra"], extra, FusedLeakyReLU
    rosinality.install("src.op")
    rosinality.uninstall("src.op")
    assert {name for name in sys.modules if name not in before} == {"models", "models.stylegan2", "models.stylegan2.op"}


def test_a_folder_that_comes_onto_the_path_later(tmp_path):
    nvlabs.install()
    on_path(tmp_path, NVLABS)
    from training import networks

    assert networks.misc.__file__ == str(tmp_path / "torch_utils" / "misc.py")
    assert networks.bias_act is nvlabs.bias_act
    nvlabs.uninstall()
    assert importlib.import_module("torch_utils.ops.bias_act").bias_act() == "theirs"


def test_a_package_that_fails_is_left_as_it_was(tmp_path):
    on_path(tmp_path, BASICSR | {"basicsr/__init__.py": "import a_module_that_is_not_there\n"})
    before = dict(sys.modules)
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        basicsr.install()
    assert sys.modules == before and basicsr._installer.installed == {}


def test_what_someone_else_put_in_stays():
    nvlabs.install()
    other = sys.modules["torch_utils.ops.fma"] = sys.modules["torch_utils.ops"].fma = object()
    nvlabs.uninstall()
    assert sys.modules["torch_utils.ops.fma"] is sys.modules["torch_utils.ops"].fma is other
