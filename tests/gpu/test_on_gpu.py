"""What no emulator runs: inductor, CUDA graphs, nccl, and that nothing waits for the device. Unproven until a card has run it."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from stylegan_ops import (
    adain,
    bias_act,
    conv_epilogue,
    filtered_lrelu,
    modulated_conv2d,
    pixel_norm,
    setup_filter,
    upfirdn2d,
    use_impl,
)
from stylegan_ops._library import LIBRARIES
from stylegan_ops.models.stylegan2 import Generator

pytestmark = pytest.mark.gpu
OWN_AND_CUDNN = (2, 1)


def up_layer(x, weight, styles, noise, bias, f):
    return modulated_conv2d(x, weight, styles, noise, up=2, padding=1, resample_filter=f, flip_weight=False, bias=bias, act="lrelu")


def layer(x, weight, styles, noise, bias):
    return modulated_conv2d(x, weight, styles, noise, padding=1, bias=bias, act="lrelu", clamp=256)


CASES: dict[str, tuple[Callable[..., torch.Tensor], tuple[tuple[int, ...], ...]]] = {
    "bias_act": (lambda x, b: bias_act(x, b, act="lrelu"), ((4, 64, 32, 32), (64,))),
    "conv_epilogue": (
        lambda y, s, n, b: conv_epilogue(y, s, n, None, b, act="lrelu"),
        ((4, 64, 32, 32), (4, 64), (32, 32), (64,)),
    ),
    "adain": (
        lambda x, scale, shift, n, strength, b: adain(x, scale, shift, n, strength, b, "lrelu"),
        ((4, 64, 32, 32), (4, 64), (4, 64), (32, 32), (64,), (64,)),
    ),
    "pixel_norm": (pixel_norm, ((4, 64, 32, 32),)),
    "upfirdn2d": (lambda x, f: upfirdn2d(x, f, up=2, padding=2), ((4, 64, 32, 32), ())),
    "filtered_lrelu": (lambda x, b, f: filtered_lrelu(x, f, f, b, 2, 2, 3), ((4, 64, 32, 32), (64,), ())),
    "layer": (layer, ((4, 64, 32, 32), (64, 64, 3, 3), (4, 64), (32, 32), (64,))),
    "up-layer": (up_layer, ((4, 64, 16, 16), (64, 64, 3, 3), (4, 64), (32, 32), (64,), ())),
}


@pytest.fixture(autouse=True, params=OWN_AND_CUDNN, ids=["own convolution", "cuDNN"])
def native(request):
    if not LIBRARIES["cuda"].loaded:
        pytest.skip(f"needs the CUDA library: {LIBRARIES['cuda'].reason}")
    torch.ops.stylegan_ops.set_convolution(request.param)
    with use_impl("native"):
        yield
    torch.ops.stylegan_ops.set_convolution(0)


def make(name: str, dtype: torch.dtype, requires_grad: bool) -> tuple[Callable[..., torch.Tensor], list[torch.Tensor]]:
    """The function, and its operands: an image in channels_last, and () for a filter."""
    function, shapes = CASES[name]
    tensors = [setup_filter([1, 3, 3, 1], device="cuda") if shape == () else torch.randn(shape, device="cuda") for shape in shapes]
    tensors[0] = tensors[0].to(dtype, memory_format=torch.channels_last)
    return function, [t.requires_grad_(requires_grad and shape != ()) for t, shape in zip(tensors, shapes, strict=True)]


def step(function, tensors) -> list[torch.Tensor]:
    """The result and its gradients."""
    y = function(*tensors)
    return [y, *torch.autograd.grad(y.float().square().sum(), [t for t in tensors if t.requires_grad])]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_inductor(name, dtype):
    function, tensors = make(name, dtype, requires_grad=True)
    for compiled, eager in zip(step(torch.compile(function, fullgraph=True), tensors), step(function, tensors), strict=True):
        torch.testing.assert_close(compiled, eager)


@pytest.mark.parametrize("name", CASES)
def test_nothing_waits_for_the_device(name):
    function, tensors = make(name, torch.bfloat16, requires_grad=True)
    step(function, tensors)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(function, tensors)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def captured(function: Callable[[], object]) -> tuple[torch.cuda.CUDAGraph, object]:
    """The graph of a call, and what it writes to, after warm-up calls on a stream of their own."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function()
    return graph, result


@pytest.mark.parametrize("name", CASES)
def test_a_graph_of_forward_and_backward(name):
    function, tensors = make(name, torch.bfloat16, requires_grad=True)
    graph, result = captured(lambda: step(function, tensors))
    with torch.no_grad():
        tensors[0].copy_(torch.randn_like(tensors[0]))
    graph.replay()
    for replayed, eager in zip(result, step(function, tensors), strict=True):
        torch.testing.assert_close(replayed, eager)


@torch.no_grad()
def test_a_graph_of_the_generator():
    G = Generator(64, channel_base=2048, channel_max=64).cuda().eval().requires_grad_(False)
    z = torch.randn(2, 512, device="cuda")

    def images():
        with torch.autocast("cuda", torch.bfloat16):
            return G(z, noise_mode="const")

    graph, result = captured(images)
    z.copy_(torch.randn_like(z))
    graph.replay()
    torch.testing.assert_close(result, images())


def test_nccl_ddp(tmp_path):
    """A training step of a wrapped generator gives the gradients of the bare one."""
    torch.distributed.init_process_group("nccl", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    try:
        G = Generator(32, channel_base=1024, channel_max=64).cuda()
        wrapped = nn.parallel.DistributedDataParallel(G, device_ids=[0])
        z = torch.randn(4, 512, device="cuda")
        gradients = []
        for network in (G, wrapped):
            G.zero_grad()
            network(z, noise_mode="const").square().mean().backward()
            gradients.append([p.grad.clone() for p in G.parameters() if p.grad is not None])
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b)
    finally:
        torch.distributed.destroy_process_group()
