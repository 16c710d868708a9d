"""Pixels, tiles and PNG files."""

import numpy as np
import pytest
import torch
from PIL import Image

from stylegan_ops.models.stylegan2 import Generator
from stylegan_ops.training.grids import SnapshotGrid, grid_shape, save_png, tile, to_uint8


def test_to_uint8_is_the_inverse_of_the_training_scale():
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(pixels.float() * (1 / 127.5) - 1), pixels)
    assert to_uint8(torch.tensor([-9.0, 9.0])).tolist() == [0, 255]


def test_tile():
    images = torch.arange(1, 4).to(torch.uint8)[:, None, None, None].expand(3, 1, 2, 2)
    assert tile(images, 2)[0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 0, 0], [3, 3, 0, 0]]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_png(tmp_path, channels, mode):
    image = torch.randint(0, 256, (channels, 4, 6), dtype=torch.uint8)
    save_png(tmp_path / "image.png", image)
    read = Image.open(tmp_path / "image.png")
    assert (read.mode, read.size) == (mode, (6, 4))
    assert np.array_equal(np.asarray(read).reshape(4, 6, channels), image.permute(1, 2, 0).numpy())


def test_png_rejects_other_channels(tmp_path):
    with pytest.raises(ValueError, match=r"save_png: image must have 1 or 3 channels \(2\)"):
        save_png(tmp_path / "image.png", torch.zeros(2, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize("resolution", [4, 32, 64, 128, 256, 1024])
def test_grid_shape(resolution):
    columns, rows = grid_shape(resolution)
    assert 8 <= columns * rows <= 128


def test_snapshots_show_the_same_images_and_leave_the_random_stream():
    G = Generator(8, z_dim=4, c_dim=3, w_dim=4, num_layers=1, channel_base=32, channel_max=4).eval()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = SnapshotGrid(8, 4, 3, seed=1).draw(G, precision="float32", batch_size=24)
    assert torch.equal(torch.rand(1), expected)
    assert first.shape == (3, 64, 128)
    again = SnapshotGrid(8, 4, 3, seed=1).draw(G, precision="float32", batch_size=128)
    assert (first.int() - again.int()).abs().max() <= 1  # rounding may differ with the batch
    assert not torch.equal(first, SnapshotGrid(8, 4, 3, seed=2).draw(G, precision="float32", batch_size=24))


@pytest.mark.parametrize(("resolution", "classes", "rows"), [(8, 10, 10), (8, 30, 16), (256, 10, 10), (256, 2, 2)])
def test_every_class_has_a_row(resolution, classes, rows):
    assert sorted(set(SnapshotGrid(resolution, 4, classes, seed=1).c.argmax(1).tolist())) == list(range(rows))


def test_rows_are_classes():
    grid = SnapshotGrid(8, 4, 3, seed=1)
    assert grid.c.view(8, 16, 3).argmax(2).tolist() == [[row % 3] * 16 for row in range(8)]
