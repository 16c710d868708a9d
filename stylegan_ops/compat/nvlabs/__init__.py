"""NVIDIA's `torch_utils.ops` and `torch_utils.custom_ops`, both generations (StyleGAN2-ADA and StyleGAN3), on the ops of this package.

Change the import, `from stylegan_ops.compat.nvlabs import bias_act, upfirdn2d`, or none:

    import stylegan_ops.compat.nvlabs as n
    n.install()      # torch_utils.ops.bias_act ... are the modules here, before or after the other code was imported

or run a script unchanged: `python -m stylegan_ops.compat.nvlabs train.py --outdir ...`

Their other modules (`torch_utils.misc`, `persistence`, `training_stats`) stay theirs. `modulated_conv2d` is for those who patch
`training.networks`; `networks_stylegan3.modulated_conv2d` is that of SG3's own networks.
"""

from __future__ import annotations

from .._install import Installer
from . import (
    bias_act,
    conv2d_gradfix,
    conv2d_resample,
    custom_ops,
    filtered_lrelu,
    fma,
    grid_sample_gradfix,
    networks_stylegan2,
    networks_stylegan3,
    upfirdn2d,
)
from .networks_stylegan2 import modulated_conv2d

__all__ = [
    "bias_act",
    "conv2d_gradfix",
    "conv2d_resample",
    "custom_ops",
    "filtered_lrelu",
    "fma",
    "grid_sample_gradfix",
    "install",
    "modulated_conv2d",
    "networks_stylegan2",
    "networks_stylegan3",
    "uninstall",
    "upfirdn2d",
]

_OPS = {
    "bias_act": bias_act,
    "conv2d_gradfix": conv2d_gradfix,
    "conv2d_resample": conv2d_resample,
    "filtered_lrelu": filtered_lrelu,
    "fma": fma,
    "grid_sample_gradfix": grid_sample_gradfix,
    "upfirdn2d": upfirdn2d,
}
_installer = Installer("torch_utils", {f"ops.{name}": module for name, module in _OPS.items()} | {"custom_ops": custom_ops})


def install(package: str = "torch_utils") -> None:
    """Puts the modules into `sys.modules` under the original names, and exchanges what was imported from there already.

    Args:
        package: where the other code has them; another name for forks that moved the folder, `"src.torch_utils"`.

    A second time without effect. Where their package can be imported, its other modules stay; so make their folder importable first.
    """
    _installer.install(package)


def uninstall(package: str = "torch_utils") -> None:
    """Puts back what `install` exchanged. Code that was imported in between keeps what it got."""
    _installer.uninstall(package)
