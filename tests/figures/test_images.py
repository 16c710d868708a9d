"""Latents by seed, and sheets."""

import pytest
import torch

from stylegan_ops.figures import captioned, draw_images, seeded_latents, sheet
from stylegan_ops.training.grids import to_uint8


def test_a_seed_has_one_code(make_generator):
    G = make_generator(c_dim=3)
    z, c = seeded_latents(G, [4, 9])
    assert torch.equal(z[1:], torch.randn(1, 6, generator=torch.Generator().manual_seed(9)))
    assert torch.equal(z[1:], seeded_latents(G, [9])[0])
    assert c.tolist() == [[0, 1, 0], [1, 0, 0]]  # 4 and 9 modulo 3
    assert seeded_latents(G, [4, 9], 2)[1].tolist() == [[0, 0, 1]] * 2
    assert seeded_latents(make_generator(), [4])[1] is None


def test_rejects_seeds_and_classes(make_generator):
    for arguments, message in [
        (([],), r"seeded_latents: seeds must hold at least one number \(got none\)"),
        (([1], 3), r"seeded_latents: class_index must be in 0 to 2 \(got 3\)"),
        (([1], -1), r"seeded_latents: class_index must be in 0 to 2 \(got -1\)"),
    ]:
        with pytest.raises(ValueError, match=f"^{message}$"):
            seeded_latents(make_generator(c_dim=3), *arguments)
    with pytest.raises(ValueError, match=r"class_index needs a conditional network \(got 0\)$"):
        seeded_latents(make_generator(), [1], 0)


def test_draws_more_than_a_batch(make_generator):
    G = make_generator(4)
    ws = G.mapping(torch.randn(35, 6))
    assert (draw_images(G, ws).int() - to_uint8(G.synthesis(ws, noise_mode="const")).int()).abs().max() <= 1  # rounding by batch


def test_sheet_keeps_rows_and_columns():
    images = torch.arange(2 * 3).view(2, 3, 1, 1, 1).expand(2, 3, 1, 4, 5).to(torch.uint8)
    assert torch.equal(
        sheet(images), torch.tensor([[0, 1, 2], [3, 4, 5]], dtype=torch.uint8).repeat_interleave(4, 0).repeat_interleave(5, 1)[None]
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_captions_stand_above_enlarged_images(channels):
    images = torch.randint(0, 256, (2, 3, channels, 40, 40), dtype=torch.uint8)
    picture = captioned(images, ["a", "", "b"])
    assert picture.shape == (channels, 2 * 15 + 2 * 120, 3 * 120)  # three times 40 pixels
    assert torch.equal(picture[:, 30::3, ::3], sheet(images))
    strip = picture[:, :30]
    assert strip[..., :120].min() < 128 and strip[..., 240:].min() < 128
    assert strip[..., 120:240].eq(255).all()


def test_long_captions_shrink():
    strip = captioned(torch.zeros(1, 1, 1, 96, 96, dtype=torch.uint8), ["layers 3-4 from the top row"])[0, :24]
    assert strip[:, [0, -1]].eq(255).all() and strip[:, 1:-1].min() < 128
