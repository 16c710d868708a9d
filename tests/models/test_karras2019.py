"""The layout of the published StyleGAN generators, renamed here and back, and the pictures that such a file gives."""

import pytest
import torch
from stylegan_cases import SIZES, define, make
from stylegan_definition import Definition, layout

from stylegan_ops.checkpoints import from_karras2019, to_karras2019
from stylegan_ops.models.stylegan import Generator


def published(resolution=16, taps=(1, 2, 1), channel_base=64):
    """A file of the published layout, its tensors random and its blurs what they are."""
    channels = {r: min(channel_base // r, 8) for r in (4 << i for i in range(resolution.bit_length() - 2))}
    state = {name: torch.randn(shape) for name, shape in layout(resolution, channels, w_dim=5, taps=len(taps)).items()}
    kernel = torch.tensor(taps, dtype=torch.float32)
    kernel = kernel.outer(kernel) / kernel.sum() ** 2
    return {name: kernel.expand_as(value).clone() if ".blur." in name else value for name, value in state.items()}


def test_layout_of_the_published_file():
    shapes = layout(1024, {r: min(16384 // r, 512) for r in (2**i for i in range(2, 11))}, w_dim=512)
    assert len(shapes) == 116
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    assert sum(value.numel() for name, value in state.items() if ".blur." not in name) == 26_212_019
    with torch.device("meta"):
        G = Generator(1024, progressive=False)
    renamed = from_karras2019(state)
    expected = {name: value.shape for name, value in G.state_dict().items()}
    assert {name: value.shape for name, value in renamed.items()} == {name: expected[name] for name in renamed}
    assert set(renamed) >= {name for name, _ in G.named_parameters()}


@torch.no_grad()
def test_a_published_file_gives_the_definitions_pictures():
    state = published()
    G = Generator(16, progressive=False, **SIZES | {"z_dim": 5, "num_layers": 8})
    kept = G.load_state_dict(from_karras2019(state), strict=False)
    assert kept.unexpected_keys == [] and set(kept.missing_keys) <= {name for name, _ in G.named_buffers()}
    noise = define(G).noise
    D = Definition({name: value.double() for name, value in state.items()}, {key: value.double() for key, value in noise.items()})
    z = torch.randn(4, 5)
    expected = D.images(D.mapping(z.double())[:, None].expand(-1, 6, -1), 16)
    torch.testing.assert_close(G(z, noise_mode="const").double(), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@torch.no_grad()
def test_from_128_pixels_on_the_published_network_has_transposed_convolutions():
    state = published(128, channel_base=256)
    G = Generator(128, progressive=False, **SIZES | {"z_dim": 5, "num_layers": 8, "channel_base": 256})
    G.load_state_dict(from_karras2019(state), strict=False)
    D = Definition({name: value.double() for name, value in state.items()}, {}, transposed_from=128)
    ws = torch.randn(1, 12, 5)
    expected = D.images(ws.double(), 128)
    torch.testing.assert_close(G.synthesis(ws, noise_mode="none").double(), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    back = to_karras2019(G.state_dict())
    assert set(back) == set(state) and all(torch.equal(back[name], value) for name, value in state.items())


def test_there_and_back():
    state = published(taps=(1, 4, 6, 4, 1))
    renamed = from_karras2019(state)
    assert renamed["synthesis.const"].data_ptr() == state["blocks.4x4.const"].data_ptr()
    back = to_karras2019(renamed)
    assert set(back) == set(state) and all(torch.equal(back[name], value) for name, value in state.items())


def test_a_network_that_has_grown_is_written_with_its_last_torgb():
    G = make()
    exported = to_karras2019(G.state_dict())
    assert {name: tuple(value.shape) for name, value in exported.items()} == layout(16, {4: 8, 8: 8, 16: 4}, 5, 3) | {
        "mapping.dense0.weight": (5, 6)
    }
    other = make(progressive=False)
    other.load_state_dict(from_karras2019(exported), strict=False)
    z = torch.randn(2, 6, dtype=torch.float64)
    assert torch.equal(other(z, noise_mode="none"), G(z, noise_mode="none"))


def test_renaming_rejects():
    state = published()
    for change, message in [
        (lambda s: s.pop("torgb.bias"), r"state_dict must have all names of the layout \(lacks 1: torgb.bias\)"),
        (
            lambda s: s.update({"torgb2.bias": torch.zeros(3)}),
            r"state_dict must have no other names than the layout's \(has 1: torgb2.bias\)",
        ),
        (
            lambda s: s.update({"torgb.weight": torch.zeros(3, 5, 1, 1)}),
            r"torgb.weight must have shape \(3, 4, 1, 1\) \(got shape \(3, 5, 1, 1\)\)",
        ),
        (
            lambda s: s.update({"blocks.4x4.const": torch.zeros(8, 4, 4)}),
            r"blocks.4x4.const must have shape \(1, 8, 4, 4\) \(got shape \(8, 4, 4\)\)",
        ),
        (lambda s: s.clear(), r"state_dict must be that of a StyleGAN generator \(got 0 names, \)"),
    ]:
        changed = dict(state)
        change(changed)
        with pytest.raises(ValueError, match=f"^from_karras2019: {message}$"):
            from_karras2019(changed)
    for switches in ({"const_input": False}, {"noise": False}, {"styles": False}, {"blur_filter": None}, {"c_dim": 2}):
        with pytest.raises(ValueError, match=r"^to_karras2019: state_dict must have (all names of the layout \(lacks|no other names)"):
            to_karras2019(make(**switches).state_dict())
