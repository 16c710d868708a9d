"""Which implementation runs: use_impl, impl=, explain, cpu_variant, and what happens where there is no kernel."""

import subprocess
import sys
import textwrap
import warnings

import pytest
import torch
from support import assert_rejects, leaf

import stylegan_ops
from stylegan_ops import adain, bias_act, conv_epilogue, explain, filtered_lrelu, modulated_conv2d, pixel_norm, upfirdn2d, use_impl
from stylegan_ops._library import LIBRARIES
from stylegan_ops.ops import NAMES, cpu_variant

IMAGE = torch.ones(1, 2, 4, 4)
CALLS = {
    "adain": lambda x, **impl: adain(x, **impl),
    "bias_act": lambda x, **impl: bias_act(x, **impl),
    "conv_epilogue": lambda x, **impl: conv_epilogue(x, **impl),
    "filtered_lrelu": lambda x, **impl: filtered_lrelu(x, **impl),
    "modulated_conv2d": lambda x, **impl: modulated_conv2d(x, torch.ones(3, 2, 3, 3, dtype=x.dtype, device=x.device), None, **impl),
    "pixel_norm": lambda x, **impl: pixel_norm(x, **impl),
    "upfirdn2d": lambda x, **impl: upfirdn2d(x, None, **impl),
}


def ran_natively(op, **impl):
    """Told by the graph: only a registered operator leaves a node of its name."""
    y = CALLS[op](leaf(IMAGE), **impl)
    return "stylegan_ops" in y.grad_fn.name()


def test_every_op_is_called():
    assert sorted(CALLS) == sorted(NAMES)


@pytest.mark.parametrize("op", NAMES)
def test_argument_wins_over_context(native, op):
    assert ran_natively(op)
    assert not ran_natively(op, impl="reference")
    with use_impl("reference"):
        assert not ran_natively(op)
        assert ran_natively(op, impl="native")
        assert ran_natively(op, impl="auto")


@pytest.mark.parametrize("op", NAMES)
def test_the_default_is_native_where_there_is_a_kernel(op):
    assert ran_natively(op) == LIBRARIES["cpu"].loaded


@pytest.mark.parametrize("op", NAMES)
def test_forward_mode_runs_on_the_reference(op):
    """The kernels have no forward-mode derivative, and without a word tangents would be 0."""
    x, v = torch.randn(2, 2, 4, 4, dtype=torch.float64) + 3, torch.randn(2, 2, 4, 4, dtype=torch.float64)
    _, tangent = torch.func.jvp(CALLS[op], (x,), (v,))
    step = 1e-6
    expected = (CALLS[op](x + step * v) - CALLS[op](x - step * v)) / (2 * step)
    torch.testing.assert_close(tangent, expected, rtol=1e-7, atol=1e-8)
    assert_rejects(
        RuntimeError,
        f"{op}: impl='native' has no forward-mode derivative (torch.func.jvp, torch.autograd.forward_ad)",
        torch.func.jvp,
        lambda x: CALLS[op](x, impl="native"),
        (x,),
        (v,),
    )


def test_contexts_nest_and_end_with_an_error(native):
    def current():
        return ran_natively("bias_act")

    with use_impl("reference"):
        with use_impl("auto"):
            assert current()
        assert not current()
        with pytest.raises(KeyError), use_impl("native"):
            raise KeyError
        assert not current()
    assert current()


def test_use_impl_rejects():
    def enter(name):
        with use_impl(name):
            pass

    message = "use_impl: impl must be one of auto, native, reference (got 'cuda')"
    assert_rejects(ValueError, message, enter, "cuda")
    with pytest.raises(ValueError, match="got None"):
        enter(None)


@pytest.mark.parametrize("op", NAMES)
def test_native_on_a_device_without_kernels_is_an_error(op):
    message = (
        f"{op}: impl='native' has no kernel for torch.float32 on meta: stylegan_ops has no kernels for meta tensors; "
        "move the tensors to the CPU or a CUDA device"
    )
    assert_rejects(RuntimeError, message, CALLS[op], IMAGE.to("meta"), impl="native")


@pytest.mark.parametrize("op", [op for op in NAMES if op != "modulated_conv2d"])
def test_native_with_a_dtype_without_kernels_is_an_error(op):
    message = (
        f"{op}: impl='native' has no kernel for torch.float8_e4m3fn on cpu: there is no kernel for torch.float8_e4m3fn; "
        "use float64, float32, bfloat16 or float16"
    )
    assert_rejects(RuntimeError, message, CALLS[op], IMAGE.to(torch.float8_e4m3fn), impl="native")


@pytest.mark.parametrize("op", NAMES)
@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.complex64])
def test_a_dtype_without_a_meaning_is_a_type_error(op, dtype):
    for impl in ("auto", "native", "reference"):
        with pytest.raises(TypeError, match=rf"^{op}: [xy] must be of a floating-point dtype \(got {dtype}\)$"):
            CALLS[op](IMAGE.to(dtype), impl=impl)


def test_meta_tensors_run_on_the_reference():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for op, call in CALLS.items():
            y = call(IMAGE.to("meta"))
            assert y.device.type == "meta" and y.shape == call(IMAGE).shape, op


def test_explain(native):
    with use_impl("auto"):
        variant = cpu_variant()
        assert explain("upfirdn2d") == f"native: float32 on cpu, {variant} kernels"
        assert explain("bias_act", IMAGE.bfloat16()) == f"native: bfloat16 on cpu, {variant} kernels"
        assert explain("pixel_norm", IMAGE.to(torch.float8_e5m2)) == (
            "reference: there is no kernel for torch.float8_e5m2; use float64, float32, bfloat16 or float16 (float8_e5m2 on cpu)"
        )
        assert explain("modulated_conv2d", IMAGE.to("meta"), torch.ones(1)) == (
            "reference: stylegan_ops has no kernels for meta tensors; move the tensors to the CPU or a CUDA device (float32 on meta)"
        )
    with use_impl("reference"):
        assert explain("conv_epilogue", IMAGE) == "reference: use_impl('reference') is in force (float32 on cpu)"


def test_explain_rejects():
    assert_rejects(ValueError, f"explain: op_name must be one of {', '.join(NAMES)} (got 'conv2d')", explain, "conv2d")
    assert_rejects(TypeError, "explain: tensors must be tensors (got 3)", explain, "bias_act", 3)


def test_cpu_variant_switches_and_reports(native):
    before = cpu_variant()
    try:
        assert cpu_variant("baseline") == cpu_variant() == "baseline"
        assert stylegan_ops.build_info()["cpu_variant"] == "baseline"
    finally:
        assert cpu_variant(before) == before


def test_cpu_variant_rejects(native):
    before = cpu_variant()
    message = "cpu_variant: select must be one of baseline, avx2, avx512 (got 'neon')"
    assert_rejects(ValueError, message, cpu_variant, "neon")
    assert cpu_variant() == before


def run_without_library(code):
    code = "import os\nos.environ['STYLEGAN_OPS_NATIVE'] = '0'\n" + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_without_the_library_auto_warns_once_and_works():
    lines = run_without_library(
        """
        import warnings
        import torch
        import stylegan_ops as s
        x = torch.ones(1, 2, 4, 4, requires_grad=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                y = s.bias_act(x, act="lrelu")
                y = s.pixel_norm(s.upfirdn2d(y, s.setup_filter([1, 3, 3, 1]), up=2, padding=1))
                y = s.conv_epilogue(s.modulated_conv2d(y, torch.ones(3, 2, 3, 3), torch.ones(1, 2)), act="tanh")
                y.sum().backward()
        print(*(f"{w.category.__name__}: {w.message}" for w in caught), sep="|")
        print(x.grad.shape == x.shape)
        print(s.explain("bias_act"))
        for call in (lambda: s.bias_act(x, impl="native"), s.ops.cpu_variant):
            try:
                call()
            except RuntimeError as error:
                print(error)
        print(s.build_info()["cpu_variant"])
        """
    )
    assert lines == [
        "RuntimeWarning: bias_act runs on the PyTorch reference: STYLEGAN_OPS_NATIVE=0 is set; unset STYLEGAN_OPS_NATIVE",
        "True",
        "reference: STYLEGAN_OPS_NATIVE=0 is set; unset STYLEGAN_OPS_NATIVE (float32 on cpu)",
        "bias_act: impl='native' has no kernel for torch.float32 on cpu: STYLEGAN_OPS_NATIVE=0 is set; unset STYLEGAN_OPS_NATIVE",
        "cpu_variant: the compiled CPU library is not loaded: STYLEGAN_OPS_NATIVE=0 is set",
        "None",
    ]


def test_the_warning_names_the_line_that_called():
    lines = run_without_library(
        """
        import warnings
        import torch
        import stylegan_ops as s
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            s.upfirdn2d(torch.ones(1, 1, 2, 2), None)
        print(caught[0].filename)
        """
    )
    assert lines == ["<string>"]


def test_asking_for_the_reference_does_not_warn():
    lines = run_without_library(
        """
        import warnings
        import torch
        import stylegan_ops as s
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            s.bias_act(torch.ones(1, 1), impl="reference")
            with s.use_impl("reference"):
                s.pixel_norm(torch.ones(1, 1))
        print("quiet")
        """
    )
    assert lines == ["quiet"]
