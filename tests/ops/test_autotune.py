"""autotune: what is measured, when, and that what was faster runs. The clock is made up except where the CUDA library runs."""

import subprocess
import sys
import textwrap
from functools import partial

import pytest
import torch
from support import assert_rejects, leaf, randn

from stylegan_ops import autotune, explain, modulated_conv2d, setup_filter, use_impl
from stylegan_ops.ops import _autotune
from stylegan_ops.ops._autotune import BY_RULE, CUDNN, OWN
from stylegan_ops.ops._registry import native


@pytest.fixture(autouse=True)
def on(monkeypatch):
    """autotune is on and has measured nothing; afterwards all is as before."""
    monkeypatch.setattr(_autotune, "_choices", {})
    autotune(True)
    yield
    autotune(False)


@pytest.fixture
def clock(monkeypatch):
    """Makes up the time of each kind of convolution and keeps who was measured."""
    times, measured = {CUDNN: 2.0, OWN: 1.0}, []

    def milliseconds(function, device):
        assert isinstance(function, partial) and not torch.is_grad_enabled()
        choice, op, args = function.args
        measured.append((choice, op))
        return times[choice]

    monkeypatch.setattr(_autotune, "milliseconds", milliseconds)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    return times, measured


X, W, S = torch.ones(2, 3, 4, 5), torch.ones(6, 3, 3, 3), torch.ones(2, 3)


def test_each_call_is_measured_once(clock):
    times, measured = clock
    assert [_autotune.choose("conv", (X, W, S, 1, [1, 2])) for _ in range(3)] == [OWN] * 3
    assert measured == [(CUDNN, "conv"), (OWN, "conv")]
    times[OWN] = 3.0
    assert _autotune.choose("conv", (X + 1, W, S, 1, [1, 2])) == OWN  # it was measured before
    assert _autotune.choose("conv", (X, W, S, 2, [1, 2])) == CUDNN


@pytest.mark.parametrize(
    "other",
    [
        ("weight", (X, W, S, 1, [1, 2])),
        ("conv", (X.half(), W, S, 1, [1, 2])),
        ("conv", (X.to(memory_format=torch.channels_last), W, S, 1, [1, 2])),
        ("conv", (X[:, :, 1:], W, S, 1, [1, 2])),
        ("conv", (X, W[:4], S, 1, [1, 2])),
        ("conv", (X, W, None, 1, [1, 2])),
        ("conv", (X, W, S, 2, [1, 2])),
        ("conv", (X, W, S, 1, [2, 1])),
        ("conv", (X.to("meta"), W, S, 1, [1, 2])),
    ],
)
def test_what_the_time_depends_on_is_told_apart(clock, other):
    _, measured = clock
    _autotune.choose("conv", (X, W, S, 1, [1, 2]))
    _autotune.choose(*other)
    assert len(measured) == 4


def test_a_captured_graph_takes_what_was_measured_before(clock, monkeypatch):
    _, measured = clock
    _autotune.choose("conv", (X, W))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert _autotune.choose("conv", (X, W)) == OWN
    assert _autotune.choose("conv", (X, W, S)) == BY_RULE
    assert len(measured) == 2 and len(_autotune._choices) == 1


def test_it_is_off_where_results_must_repeat():
    convolution = torch.ops.stylegan_ops.modulated_conv2d.default
    assert _autotune.is_on() and native("modulated_conv2d") is not convolution
    for switch in (
        torch.use_deterministic_algorithms,
        partial(setattr, torch.backends.cudnn, "deterministic"),
        lambda on: autotune(not on),
    ):
        switch(True)
        try:
            assert not _autotune.is_on() and native("modulated_conv2d") is convolution
        finally:
            switch(False)
    assert _autotune.is_on()


def test_it_is_off_in_compiled_functions():
    def f(x):
        return x + 1 if _autotune.is_on() else x - 1

    torch._dynamo.reset()
    assert torch.equal(torch.compile(f, fullgraph=True, backend="eager")(torch.ones(2)), torch.zeros(2))


def test_only_convolutions_are_hooked():
    assert native("conv_epilogue") is torch.ops.stylegan_ops.conv_epilogue.default


@pytest.mark.parametrize("grad", [False, True])
def test_on_the_cpu_it_changes_nothing(native, clock, grad):
    _, measured = clock
    x, weight, styles = randn(2, 3, 5, 4).requires_grad_(grad), randn(4, 3, 3, 3), randn(2, 3)
    y = modulated_conv2d(x, weight, styles, padding=1)
    autotune(False)
    assert torch.equal(y, modulated_conv2d(x, weight, styles, padding=1))
    assert measured == [] and "autotune" not in explain("modulated_conv2d", x)


def test_rejects():
    for value in (1, "auto", None):
        assert_rejects(TypeError, f"autotune: enabled must be True or False (got {value!r})", autotune, value)
    assert _autotune.is_on()


def test_ranks_make_the_choice_of_the_first_to_measure(tmp_path):
    """Rank 1 calls after rank 0 alone called, and prefers the other: no rank waits for the other's call."""
    code = textwrap.dedent(
        f"""
        import sys, torch, torch.distributed as dist
        from stylegan_ops.ops import _autotune
        rank = int(sys.argv[1])
        fast = (_autotune.CUDNN, _autotune.OWN)[rank]
        torch.cuda.is_current_stream_capturing = lambda: False
        _autotune.milliseconds = lambda function, device: float(function.args[0] != fast)
        alone = _autotune.choose("conv", (torch.ones(2),))  # before there is a group: each for itself
        dist.init_process_group("gloo", init_method="file://{tmp_path}/store", rank=rank, world_size=2)
        first = _autotune.choose("conv", (torch.ones(2),)) if rank == 0 else None
        dist.barrier()
        print(alone, first or _autotune.choose("conv", (torch.ones(2),)), _autotune.choose("conv", (torch.ones(rank + 3),)))
        dist.barrier()
        dist.destroy_process_group()
        """
    )
    ranks = [subprocess.Popen([sys.executable, "-c", code, str(rank)], stdout=subprocess.PIPE, text=True) for rank in (0, 1)]
    said = [rank.communicate(timeout=300)[0].splitlines()[-1].split() for rank in ranks]  # gloo may speak first
    assert [rank.returncode for rank in ranks] == [0, 0]
    assert said == [[str(CUDNN), str(CUDNN), str(CUDNN)], [str(OWN), str(CUDNN), str(OWN)]]


# On the CUDA library


BLUR = setup_filter([1, 3, 3, 1])


def layer(x, weight, styles, bias):
    return modulated_conv2d(x, weight, styles, up=2, padding=1, resample_filter=BLUR.to(x.device), bias=bias, act="lrelu")


def operands():
    shapes = ((2, 16, 5, 6), (8, 16, 3, 3), (2, 16), (8,))
    return [leaf(randn(*shape, dtype=torch.float16).cuda()) for shape in shapes]


def with_gradients(inputs):
    y = layer(*inputs)
    return [y, *torch.autograd.grad(y.float().square().sum(), inputs)]


def on_kernels(choice, function, *args):
    """What a function gives on cuDNN's convolution or our own, the autograd engine's threads included."""
    autotune(False)
    torch.ops.stylegan_ops.set_convolution(choice)
    try:
        return function(*args)
    finally:
        torch.ops.stylegan_ops.set_convolution(BY_RULE)
        autotune(True)


@pytest.mark.cuda
@pytest.mark.parametrize("fast", [CUDNN, OWN])
@pytest.mark.parametrize("function", [with_gradients, torch.no_grad()(lambda inputs: [layer(*inputs)])])
def test_the_faster_convolution_runs(clock, function, fast):
    times, measured = clock
    times.update({CUDNN: 1.0, OWN: 1.0, fast: 0.5})
    inputs = operands()
    with use_impl("native"):
        wanted, other = (on_kernels(choice, function, inputs) for choice in (fast, CUDNN + OWN - fast))
        assert not any(torch.equal(a, b) for a, b in zip(wanted[:2], other[:2], strict=True)), (
            "the two must be told apart by their roundings"
        )
        for _ in range(2):
            assert all(torch.equal(a, b) for a, b in zip(function(inputs), wanted, strict=True))
            assert len(measured) == 2 * len(_autotune._choices)
    assert len(_autotune._choices) >= (1 if len(wanted) == 1 else 3)  # the convolution; its adjoint and the weight's gradient
    assert ", the convolution chosen by autotune" in explain("modulated_conv2d", inputs[0])
    assert "autotune" not in explain("bias_act", inputs[0])


@pytest.mark.cuda
def test_both_convolutions_are_measured_on_the_device(monkeypatch):
    ran, run_on = [], _autotune.run_on

    def recorded(choice, op, args):
        ran.append(choice)
        return run_on(choice, op, args)

    monkeypatch.setattr(_autotune, "run_on", recorded)
    inputs = operands()
    with torch.no_grad(), use_impl("native"):
        y = layer(*inputs)
        again = layer(*inputs)
    (choice,) = _autotune._choices.values()
    calls = _autotune.WARM_UPS + _autotune.RUNS
    assert ran == [CUDNN] * calls + [OWN] * calls + [choice] * 2
    assert torch.equal(y, again)
    with torch.no_grad():
        assert torch.equal(y, on_kernels(choice, layer, *inputs))


@pytest.mark.cuda
def test_compiled_functions_run_by_the_rule(clock):
    _, measured = clock
    inputs = operands()
    wanted = on_kernels(BY_RULE, with_gradients, inputs)
    torch._dynamo.reset()
    y = torch.compile(layer, fullgraph=True, backend="aot_eager")(*inputs)
    got = [y, *torch.autograd.grad(y.float().square().sum(), inputs)]
    assert measured == [] and _autotune._choices == {}
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b)
