"""Which code of the CUDA library a GPU runs, and what `auto`, `native`, `explain` and the doctor make of it. The GPUs are made up."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses import FakeTensorMode

from stylegan_ops import _architectures, _impl, _library, bias_act, explain, use_impl
from stylegan_ops.ops import NAMES

SHIPPED = ["7.5", "8.0", "8.6", "9.0", "10.0", "12.0+PTX"]
OLD = SimpleNamespace(name="Tesla V100", major=7, minor=0)
TURING = SimpleNamespace(name="Tesla T4", major=7, minor=5)
AMPERE = SimpleNamespace(name="A100", major=8, minor=0)


@pytest.fixture
def machine(monkeypatch):
    """Pretends a CUDA library built for `architectures` and one GPU."""

    def pretend(architectures, gpu):
        monkeypatch.setattr(_architectures, "ARCHITECTURES", architectures)
        monkeypatch.setattr(_architectures, "CONTENTS", _architectures.contents(architectures))
        monkeypatch.setattr(_architectures, "_INSTALL", "pip install stylegan_ops")
        monkeypatch.setattr(_architectures, "_fits", {})
        monkeypatch.setitem(_library.LIBRARIES, "cuda", _library.Library("_C_cuda.so", True))
        monkeypatch.setattr(_impl, "_warned", set())
        asked = []
        cuda = SimpleNamespace(is_available=lambda: gpu is not None, get_device_properties=lambda index: asked.append(index) or gpu)
        monkeypatch.setattr(_architectures, "torch", SimpleNamespace(cuda=cuda))  # there alone: the rest of torch knows the true machine
        return asked

    return pretend


@pytest.fixture
def image():
    """An image on a GPU that need not be there."""
    with FakeTensorMode():
        yield torch.empty(1, 2, 4, 4, device="cuda")


@pytest.mark.parametrize(
    ("architectures", "capability", "code"),
    [
        (SHIPPED, (7, 5), "sm_75"),
        (SHIPPED, (8, 0), "sm_80"),
        (SHIPPED, (8, 9), "sm_86"),  # machine code serves the later GPUs of its generation
        (SHIPPED, (10, 3), "sm_100"),
        (SHIPPED, (12, 1), "sm_120"),
        (SHIPPED, (13, 0), "compute_120"),  # PTX serves all later ones
        (["8.0", "7.5+PTX"], (9, 0), "compute_75"),
        (["8.6", "8.0+PTX"], (8, 0), "sm_80"),
        (["8.6"], (8, 0), None),  # never an earlier one
        (["8.0+PTX"], (7, 5), None),
        (["8.0"], (9, 0), None),  # nor another generation without PTX
        (["9.0a+PTX"], (9, 0), "sm_90a"),
        (["9.0a+PTX"], (10, 0), None),  # features of one architecture come with no promise
        (["10.0f+PTX"], (10, 3), "sm_100f"),
        (["10.0f+PTX"], (11, 0), None),
    ],
)
def test_the_code_that_a_gpu_runs(machine, architectures, capability, code):
    gpu = SimpleNamespace(name="GPU", major=capability[0], minor=capability[1])
    machine(architectures, gpu)
    fit = _architectures.fit(gpu)
    assert (str(fit.code) if fit.code else None) == code
    assert (fit.reason is None) == (fit.remedy is None) == (code is not None)


@pytest.mark.parametrize("architectures", [[], ["Ampere"], ["8.0", "Hopper+PTX"]])
def test_a_build_that_does_not_tell_is_trusted(machine, architectures):
    machine(architectures, TURING)
    assert _architectures.fit(TURING) == _architectures.Fit()


def test_auto_falls_back_with_one_warning_where_there_is_no_code(machine, image):
    machine(["8.0", "9.0+PTX"], TURING)
    reason = (
        "the CUDA library was built for 8.0;9.0+PTX, which Tesla T4 (compute capability 7.5) cannot run; "
        "TORCH_CUDA_ARCH_LIST='7.5;8.0;9.0+PTX' STYLEGAN_OPS_CUDA=1 pip install stylegan_ops"
    )
    with warnings.catch_warnings(record=True) as caught, use_impl("auto"):
        warnings.simplefilter("always")
        for _ in range(2):
            assert bias_act(image, act="lrelu").shape == image.shape
        assert explain("bias_act", image) == f"reference: {reason} (float32 on cuda)"
    assert [str(w.message) for w in caught] == [f"bias_act runs on the PyTorch reference: {reason}"]
    with pytest.raises(RuntimeError) as error:
        bias_act(image, impl="native")
    assert str(error.value) == f"bias_act: impl='native' has no kernel for torch.float32 on cuda: {reason}"


@pytest.mark.parametrize("op", NAMES)
def test_a_gpu_older_than_the_kernels_is_named(machine, image, op):
    machine(SHIPPED, OLD)
    assert explain(op, image) == (
        "reference: Tesla V100 has compute capability 7.0, and the CUDA kernels need 7.5 or later; "
        "move the tensors to the CPU or another GPU (float32 on cuda)"
    )
    assert not _impl.is_native(op, "reference", image)


def test_a_gpu_with_code_runs_natively(machine, image):
    machine(SHIPPED, AMPERE)
    with use_impl("auto"):
        assert _impl.is_native("bias_act", None, image) and _impl.is_native("bias_act", "native", image)
        assert explain("bias_act", image) == "native: float32 on cuda, sm_80 kernels"
        assert explain("modulated_conv2d", image.bfloat16()) == "native: bfloat16 on cuda, sm_80 kernels"


@pytest.mark.parametrize(("architectures", "gpu", "code"), [(SHIPPED, TURING, "sm_75"), (["7.5+PTX"], AMPERE, "compute_75")])
def test_explain_names_bfloat16_without_tensor_cores(machine, image, architectures, gpu, code):
    machine(architectures, gpu)
    slow = f"native: bfloat16 on cuda, {code} kernels, whose own convolution runs on the ordinary pipes: there are no bfloat16 tensor cores"
    assert explain("modulated_conv2d", image.bfloat16()) == slow
    assert explain("modulated_conv2d", image.half()) == f"native: float16 on cuda, {code} kernels"
    assert explain("bias_act", image.bfloat16()) == f"native: bfloat16 on cuda, {code} kernels"


def test_the_gpu_is_asked_once(machine, image):
    asked = machine(SHIPPED, AMPERE)
    assert [_impl.why_not_native(image) for _ in range(3)] == [None] * 3
    assert asked == [0]


def test_fakes_without_a_gpu_are_traced_natively(machine, image):
    machine(SHIPPED, None)
    assert _impl.is_native("bias_act", "native", image)


@pytest.mark.parametrize(("gpu", "sign"), [(AMPERE, 1), (OLD, -1)])
def test_the_first_call_may_be_compiled(machine, gpu, sign):
    machine(SHIPPED, gpu)

    def f(x):
        return x + 1 if _architectures.fit_of_device(0).reason is None else x - 1

    torch._dynamo.reset()
    assert torch.equal(torch.compile(f, fullgraph=True, backend="eager")(torch.zeros(2)), torch.full([2], float(sign)))
    assert list(_architectures._fits) == [0]
