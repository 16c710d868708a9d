"""How many kernels a network launches in inference, PyTorch's own included: at small resolutions that is the time it takes."""

import re

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from stylegan_ops.models.stylegan2 import Generator
from stylegan_ops.ops._demodulation import NetworkStyles

pytestmark = pytest.mark.cuda
BY_RULE, OWN = 0, 2

# PyTorch's operators that launch nothing themselves: they make views, allocate, or call others.
NO_LAUNCH = re.compile(
    r"aten::(as_strided|alias|detach|empty\w*|new_empty|expand\w*|narrow|permute|_?reshape\w*|result_type|resolve_\w+|select|slice"
    r"|split\w*|squeeze|unsqueeze|t|transpose|unbind|flatten|_?\w*view\w*|contiguous|to|linear|randn|set_|resize_|lift_fresh)"
)


def launching(events) -> list[str]:
    """The outermost operators that launch."""
    found = []
    for event in events:
        if event.name.startswith("aten::") and not NO_LAUNCH.fullmatch(event.name):
            found.append(event.name)
        else:
            found += launching(event.cpu_children)
    return found


def launches(function) -> tuple[int, list[str]]:
    """The kernels of a call: ours as the library counts them, and PyTorch's operators, each of them one or more."""
    function()  # what is kept is made, and chosen algorithms are known
    before = torch.ops.stylegan_ops.cuda_launches()
    with profile(activities=[ProfilerActivity.CPU]) as run:
        function()
    own = torch.ops.stylegan_ops.cuda_launches() - before
    return own, launching([event for event in run.events() if event.cpu_parent is None])


@pytest.fixture(params=[BY_RULE, OWN], ids=["by rule", "own convolution"])
def convolution(request):
    torch.ops.stylegan_ops.set_convolution(request.param)
    yield request.param
    torch.ops.stylegan_ops.set_convolution(BY_RULE)


def frozen(resolution: int) -> Generator:
    G = Generator(resolution, z_dim=16, w_dim=16, num_layers=2, channel_base=8 * resolution, channel_max=16, conv_clamp=256)
    return G.cuda().eval().requires_grad_(False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_a_layer(convolution, dtype):
    """Two, with a filter three, where the convolution is ours; cuDNN's has the scaling before it and the epilogue behind it."""
    block = frozen(16).synthesis.b16
    for layer, resolution in ((block.conv0, 8), (block.conv1, 16), (block.torgb, 16)):
        x = torch.randn(1, layer.weight.shape[1], resolution, resolution, device="cuda", dtype=dtype)
        x = x.contiguous(memory_format=torch.channels_last)
        styles = torch.randn(1, 1, layer.weight.shape[1], device="cuda")
        (style,) = NetworkStyles([layer.weight], [layer is not block.torgb], torch.float32, dtype == torch.float16, 1e-8)(styles)
        own, others = launches(lambda: layer(x, style) if layer is block.torgb else layer(x, style, noise_mode="const"))  # noqa: B023
        budget = 3 if layer is block.conv0 or convolution == BY_RULE else 2
        assert own + len(others) <= budget, (own, others)


@torch.no_grad()
def test_the_whole_of_256_pixels(convolution):
    G = frozen(256)
    ws = torch.randn(1, G.num_ws, 16, device="cuda")

    def forward():
        with torch.autocast("cuda", torch.bfloat16):
            G.synthesis(ws)

    own, others = launches(forward)
    # 13 convolutions, 6 of them with a filter, and 7 toRGB; of the picture 6 filters and sums; 8 for codes, styles, noise, the constant and
    # the conversions at both ends. cuDNN's 17 convolutions have a scaling before them and an epilogue behind them.
    assert own + len(others) <= (46 if convolution == OWN else 75), (own, sorted(others))
