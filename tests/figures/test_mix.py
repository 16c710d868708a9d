"""The style-mixing matrix and its ranges."""

import pytest
import torch
from torch import nn

from stylegan_ops.figures import layer_range, mix, seeded_latents
from stylegan_ops.models import stylegan
from stylegan_ops.training.grids import to_uint8


@pytest.mark.parametrize(
    ("num_layers", "cuts"),
    [(18, (4, 8)), (12, (4, 8)), (10, (4, 8)), (8, (3, 5)), (6, (2, 4)), (4, (1, 3)), (3, (1, 2))],
)
def test_ranges_cover_every_layer_once(num_layers, cuts):
    ranges = [layer_range(name, num_layers) for name in ("coarse", "middle", "fine")]
    assert ranges == [(0, cuts[0]), cuts, (cuts[1], num_layers)]
    assert all(first < behind for first, behind in ranges)


def test_ranges_by_number():
    assert layer_range("0-3", 18) == (0, 4)
    assert layer_range("5", 6) == (5, 6)
    for name, num_layers, message in [
        ("1-6", 6, r"mix: layers must run upwards within 0 and 5 \(got '1-6'\)"),
        ("3-1", 6, r"mix: layers must run upwards within 0 and 5 \(got '3-1'\)"),
        ("thin", 6, r"mix: layers must be coarse, middle, fine or two numbers such as 0-3 \(got 'thin'\)"),
        ("fine", 2, r"mix: layers 'fine' needs a network of at least 3 layers with codes \(got 2\)"),
    ]:
        with pytest.raises(ValueError, match=f"^{message}$"):
            layer_range(name, num_layers)


@pytest.mark.parametrize(("layers", "taken"), [("coarse", [0, 1]), ("fine", [4, 5]), ("1-4", [1, 2, 3, 4])])
@pytest.mark.parametrize("c_dim", [0, 3])
def test_every_image_has_the_codes_of_its_sources(make_generator, layers, taken, c_dim):
    G = make_generator(16, c_dim=c_dim)
    matrix = mix(G, [0, 1], [7, 8, 9], layers, truncation_psi=0.8)
    assert matrix.shape == (3, 4, 3, 16, 16) and matrix.dtype == torch.uint8
    assert matrix[0, 0].eq(255).all()

    def code(seed):
        return G.mapping(*seeded_latents(G, [seed]), truncation_psi=0.8)

    def difference(image, ws):
        return (image.int() - to_uint8(G.synthesis(ws, noise_mode="const"))[0].int()).abs().max()  # one in rounding, by the batch

    for i, row in enumerate([0, 1]):
        assert difference(matrix[1 + i, 0], code(row)) <= 1
        for j, column in enumerate([7, 8, 9]):
            ws = code(row).clone()
            for layer in taken:
                ws[:, layer] = code(column)[:, layer]
            assert difference(matrix[1 + i, 1 + j], ws) <= 1
            assert difference(matrix[0, 1 + j], code(column)) <= 1
            assert not torch.equal(matrix[1 + i, 1 + j], matrix[1 + i, 0])


def test_all_layers_give_the_column_and_calls_repeat(make_generator):
    G = make_generator(16)
    matrix = mix(G, [0, 1], [2, 3], "0-5")
    assert (matrix[1:, 1:].int() - matrix[:1, 1:].int()).abs().max() <= 1
    assert torch.equal(matrix, mix(G, [0, 1], [2, 3], "0-5"))


def test_a_growing_network_is_cut_where_it_stands():
    """One of 32 pixels at its 8-pixel stage uses 4 of its 8 layers, the coarse ones being the first of them."""
    torch.manual_seed(0)
    G = stylegan.Generator(32, z_dim=6, w_dim=5, channel_base=64, channel_max=8).eval().requires_grad_(False)
    G.synthesis.grow_to(8)
    matrix = mix(G, [0], [1], "coarse")
    assert matrix.shape[-1] == 8
    assert torch.equal(matrix, mix(G, [0], [1], "0")) and not torch.equal(matrix, mix(G, [0], [1], "0-2"))


def test_refuses_a_network_without_codes():
    class Plain(nn.Module):
        num_ws = 1

    with pytest.raises(ValueError, match=r"^truncation: G must have a mapping network; a ProGAN has none \(num_ws is 1\)"):
        mix(Plain(), [0], [1])
