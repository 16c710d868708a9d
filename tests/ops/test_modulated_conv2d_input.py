"""modulated_conv2d_input, the gradients of a convolution's image and styles: dx = s u, ds = sum_hw x u with u = conv^T(dy, w)."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from support import DTYPES, LAYOUTS, accumulate, assert_right, assert_same_layout, gradcheck, gradgradcheck, in_layout, leaf, randn

OP = "modulated_conv2d_input"


@dataclass(frozen=True)
class Case:
    """conv(s x, w): x `[n, I, *size]`, w `[O, I, *taps]`, or `[I, O, *taps]` of a transposed one, whose output has `extra` pixels more."""

    n: int = 2
    channels: tuple[int, int] = (6, 5)  # I, O
    taps: tuple[int, int] = (3, 3)
    size: tuple[int, int] = (7, 9)
    stride: int = 1
    padding: tuple[int, int] = (1, 1)
    transposed: bool = False
    extra: tuple[int, int] = (0, 0)

    def convolve(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if self.transposed:
            return F.conv_transpose2d(x, weight, stride=self.stride, padding=self.padding, output_padding=self.extra)
        return F.conv2d(x, weight, stride=self.stride, padding=self.padding)

    def make(self, dtype: torch.dtype, layout: torch.memory_format = torch.contiguous_format) -> list[torch.Tensor]:
        """dy, weight, x, styles."""
        x = randn(self.n, self.channels[0], *self.size, dtype=dtype, layout=layout)
        weight = randn(*(self.channels if self.transposed else self.channels[::-1]), *self.taps, dtype=dtype)
        y = self.convolve(x.double(), weight.double())
        return [randn(*y.shape, dtype=dtype, layout=layout), weight, x, randn(self.n, self.channels[0], dtype=accumulate(dtype))]

    def geometry(self) -> tuple:
        return self.stride, *self.padding, self.transposed

    def adjoint(self, dy: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """u in float64, by PyTorch's own derivative."""
        x = torch.zeros(self.n, self.channels[0], *self.size, dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad(self.convolve(x, weight.double()), x, dy.double())[0]


CASES = {
    "same": Case(),
    "1x1": Case(channels=(16, 3), taps=(1, 1), size=(5, 4), padding=(0, 0)),
    "full": Case(channels=(8, 4), padding=(2, 0)),
    "strided": Case(channels=(8, 4), size=(9, 8), stride=2, padding=(0, 1)),
    "strided 1x1": Case(taps=(1, 1), size=(5, 6), stride=2, padding=(0, 0)),
    "strided, one pixel": Case(size=(1, 1), stride=2),
    "strided, large": Case(channels=(9, 4), size=(33, 34), stride=2, padding=(0, 0)),
    "transposed": Case(channels=(4, 7), size=(4, 5), stride=2, padding=(0, 0), transposed=True),
    "transposed, extra": Case(size=(4, 3), stride=2, transposed=True, extra=(1, 0)),
    "transposed, stride 1": Case(size=(4, 6), transposed=True),
    "small images": Case(n=9, channels=(12, 8), size=(4, 4)),
    "small images, strided": Case(n=5, channels=(8, 8), size=(5, 5), stride=2, padding=(0, 0)),
    "many channels to one tile": Case(n=1, channels=(8, 200), size=(6, 6)),
    "many channels, small images": Case(n=3, channels=(33, 130), size=(3, 5)),
    "many tiles": Case(channels=(72, 4), size=(33, 20)),
    "other taps": Case(taps=(2, 5), padding=(1, 2)),
}
FEW = ("same", "strided", "transposed", "small images")


@pytest.fixture(params=["cpu", *(pytest.param(name, marks=pytest.mark.cuda) for name in ("cuda", "cuda, fused"))])
def device(request: pytest.FixtureRequest, native: None) -> Iterator[str]:
    """The CPU, and CUDA with either convolution."""
    if request.param == "cpu":
        yield "cpu"
        return
    torch.ops.stylegan_ops.set_convolution(2 if "fused" in request.param else 1)
    yield request.param
    torch.ops.stylegan_ops.set_convolution(0)


def op(*arguments):
    return torch.ops.stylegan_ops.modulated_conv2d_input.default(*arguments, False)


def on(device: str, *tensors: torch.Tensor | None) -> list[torch.Tensor | None]:
    return [None if t is None else t.to(device.removesuffix(", fused")) for t in tensors]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_matches_float64_reference(device, name, dtype):
    case = CASES[name]
    dy, weight, x, styles = case.make(dtype)
    u, size = case.adjoint(dy, weight), case.adjoint(dy.abs(), weight.abs())
    s, xd = styles.double()[:, :, None, None], x.double()
    products = case.channels[1] * case.taps[0] * case.taps[1]
    pixels = case.size[0] * case.size[1]
    # u may be rounded before it is multiplied; the library's convolution in 16 bits may round between its terms.
    library = device == "cuda" or (device == "cuda, fused" and case.taps == (2, 5))
    rounded = u.abs() + (4 * size if library else 0)
    for layout in LAYOUTS:
        image = in_layout(x, layout)
        dx, ds = (t.cpu() for t in op(*on(device, in_layout(dy, layout), weight, image, styles), *case.geometry(), True, True))
        assert dx.dtype == dtype and ds.dtype == accumulate(dtype)
        assert_same_layout(dx, image)
        assert_right(dx, s * u, dtype=dtype, terms=products + 2, magnitude=s.abs() * size, inner=1.1 * s.abs() * rounded)
        inner = 1.1 * (xd.abs() * rounded).sum([2, 3])
        truth, sums = (xd * u).sum([2, 3]), (xd.abs() * size).sum([2, 3])
        assert_right(ds, truth, dtype=dtype, terms=products + pixels + 2, magnitude=sums, inner=inner)


@pytest.mark.parametrize("name", FEW)
def test_makes_only_what_is_needed(device, name):
    case = CASES[name]
    for layout in LAYOUTS:
        dy, weight, x, styles = on(device, *case.make(torch.float32, layout))
        dx, ds = op(dy, weight, x, styles, *case.geometry(), True, True)
        alone, none = op(dy, weight, x, styles, *case.geometry(), True, False)
        assert torch.equal(alone, dx) and none.shape == (0,)
        none, alone = op(dy, weight, x, styles, *case.geometry(), False, True)
        assert torch.equal(alone, ds) and none.shape == (0,)
        u, sums = op(dy, weight, x, None, *case.geometry(), True, True)
        torch.testing.assert_close(u * styles[:, :, None, None], dx)
        assert torch.equal(sums, ds)
        alone, _ = op(dy, weight, x, None, *case.geometry(), True, False)
        assert torch.equal(alone, u)
        assert_same_layout(alone, x)


@pytest.mark.parametrize("device", [pytest.param("cuda, fused", marks=pytest.mark.cuda)], indirect=True)
def test_reads_images_that_begin_anywhere(device):
    case = Case(channels=(8, 8))
    dy, weight, x, styles = on(device, *case.make(torch.float16, torch.channels_last))

    def shifted(t):
        n, c, h, w = t.shape
        moved = t.new_empty(t.numel() + 1)[1:].view(n, h, w, c).permute(0, 3, 1, 2)
        return moved.copy_(t)

    wanted = op(dy, weight, x, styles, *case.geometry(), True, True)
    for a, b in zip(op(shifted(dy), weight, shifted(x), styles, *case.geometry(), True, True), wanted, strict=True):
        assert torch.equal(a, b)


def functions(case):
    """The op as functions of dy, weight, x and styles: with both results, either, and without styles."""
    geometry = case.geometry()
    yield lambda dy, w, x, s: op(dy, w, x, s, *geometry, True, True)
    yield lambda dy, w, x, s: op(dy, w, x, s, *geometry, True, False)[0]
    yield lambda dy, w, x, s: op(dy, w, x, s, *geometry, False, True)[1]
    yield lambda dy, w, x, s: op(dy, w, x, None, *geometry, True, False)[0] + s[:, :, None, None]


TINY = [
    Case(1, (2, 1), size=(3, 2)),
    Case(2, (1, 2), (2, 3), (3, 4), 2),
    Case(1, (2, 2), (3, 3), (2, 2), 2, (1, 0), transposed=True, extra=(1, 0)),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", TINY)
def test_gradcheck(native, case, layout):
    for function in functions(case):
        gradcheck(function, *case.make(torch.float64, layout))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", TINY)
def test_gradgradcheck(native, case, layout):
    for function in functions(case):
        gradgradcheck(function, *case.make(torch.float64, layout))


@pytest.mark.parametrize("device", [pytest.param("cuda, fused", marks=pytest.mark.cuda)], indirect=True)
@pytest.mark.parametrize(
    "case",
    [Case(3, (2, 3), size=(2, 3)), Case(2, (2, 1), size=(4, 3), stride=2), Case(1, (3, 2), size=(2, 2), stride=2, transposed=True)],
)
def test_derivatives_on_cuda(device, case):
    inputs = [leaf(t) for t in on(device, *case.make(torch.float64, torch.channels_last))]
    function = next(functions(case))
    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck(native, layout):
    for name in (*FEW, "transposed, extra", "other taps"):
        case = CASES[name]
        dy, weight, x, styles = (leaf(t) for t in case.make(torch.float64, layout))
        for s, *needs in ((styles, True, True), (styles, True, False), (styles, False, True), (None, True, False)):
            torch.library.opcheck(
                torch.ops.stylegan_ops.modulated_conv2d_input.default, (dy, weight, x, s, *case.geometry(), *needs, False)
            )


def test_empty_batch(device):
    case = Case(n=0)
    dx, ds = op(*on(device, *case.make(torch.float32)), *case.geometry(), True, True)
    assert dx.shape == (0, 6, 7, 9) and ds.shape == (0, 6)


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("x, dy and weight must fit", {"dtype": torch.float32}),
        ("the channels of x, dy and weight must agree", {"channels": 4}),
        ("the sizes of x and dy must fit", {"size": 6}),
    ],
)
def test_rejects_what_does_not_fit(device, message, changes):
    """Python has checked the arguments of the convolution; this keeps the kernels inside memory."""
    case = CASES["same"]
    dy, weight, x, styles = case.make(torch.float64)
    x = x.to(changes.get("dtype", x.dtype))[:, : changes.get("channels"), : changes.get("size")]
    with pytest.raises(RuntimeError, match=f"{OP}: {message}"):
        op(*on(device, dy, weight, x, styles), *case.geometry(), True, True)
