"""The order of training images is a function of (seed, position) alone."""

import itertools
import multiprocessing
import os
import signal
import time

import pytest
import torch

from stylegan_ops.data import ImageDataset, training_loader


class Numbers(torch.utils.data.Dataset):
    """Image i holds the number i."""

    c_dim = 1

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tensor([[[index]]], dtype=torch.uint8), torch.tensor([float(index)])


def numbers(size: int, batch_size: int, batches: int, **options: int) -> list[list[int]]:
    loader = training_loader(Numbers(size), batch_size, **{"seed": 0, **options})
    return [images.flatten().tolist() for images, _ in itertools.islice(loader, batches)]


def stream(size: int, length: int, **options: int) -> list[int]:
    return sum(numbers(size, 1, length, **options), [])


def test_batches(make_set) -> None:
    images, labels = next(training_loader(ImageDataset(make_set(6, labelled=True)), 4, seed=0))
    assert images.shape == (4, 3, 8, 8) and images.dtype == torch.uint8
    assert labels.shape == (4, 3) and labels.dtype == torch.float32 and (labels.sum(1) == 1).all()


def test_each_epoch_is_another_permutation() -> None:
    order = stream(10, 40)
    epochs = [order[i : i + 10] for i in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert order != stream(10, 40, seed=1) and order == stream(10, 40)


def test_order_is_pinned() -> None:
    """A checkpoint of today resumes in the same order tomorrow."""
    assert stream(8, 16, seed=3) == [1, 0, 2, 7, 5, 3, 6, 4, 3, 0, 4, 6, 2, 7, 1, 5]


@pytest.mark.parametrize("batch_size", [1, 3, 4, 10, 25])
def test_batches_run_on_across_epochs(batch_size: int) -> None:
    assert sum(numbers(10, batch_size, 8), []) == stream(10, 8 * batch_size)


@pytest.mark.parametrize("start", [0, 1, 7, 10, 33])
def test_resumes_at_any_position(start: int) -> None:
    assert sum(numbers(10, 4, 5, start=start), []) == stream(10, 60)[start : start + 20]


def test_ranks_share_every_batch() -> None:
    whole = numbers(10, 6, 5, start=2)
    parts = [numbers(10, 6, 5, start=2, rank=rank, world_size=3) for rank in range(3)]
    for batch, *slices in zip(whole, *parts, strict=True):
        assert slices == [batch[rank::3] for rank in range(3)]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(make_set, workers: int) -> None:
    data = ImageDataset(make_set(7, labelled=True), xflip=True)
    loaders = [training_loader(data, 4, seed=5, start=3, num_workers=count) for count in (0, workers)]
    for (images, labels), (images_too, labels_too) in itertools.islice(zip(*loaders, strict=True), 8):
        assert (images == images_too).all() and (labels == labels_too).all()
    for loader in loaders:
        loader.close()


def test_spawned_workers(make_set, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ImageDataset(make_set(4))
    expected = next(training_loader(data, 4, seed=0))[0]
    method = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    try:
        loader = training_loader(data, 4, seed=0, num_workers=1)
        assert (next(loader)[0] == expected).all()
        loader.close()
    finally:
        multiprocessing.set_start_method(method, force=True)


def test_mirrored_images_are_part_of_an_epoch(make_set) -> None:
    data = ImageDataset(make_set(3), xflip=True)
    images = next(training_loader(data, 6, seed=0))[0]
    assert {image.numpy().tobytes() for image in images} == {data[i][0].numpy().tobytes() for i in range(6)}


@pytest.mark.parametrize("workers", [0, 1])
def test_leaves_the_random_stream_alone(make_set, workers: int) -> None:
    data = ImageDataset(make_set(3))
    before = torch.get_rng_state()
    next(training_loader(data, 2, seed=0, num_workers=workers))
    assert (torch.get_rng_state() == before).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_image_is_named(make_set, workers: int) -> None:
    path = make_set(4, folder=True)
    data = ImageDataset(path)
    (path / "00000/img00000002.png").write_bytes(b"?")
    with pytest.raises(ValueError) as error:
        list(itertools.islice(training_loader(data, 2, seed=0, num_workers=workers), 2))
    message = str(error.value)
    assert message.startswith(f"ImageDataset: '00000/img00000002.png' of {str(path)!r} cannot be decoded") and "\n" not in message


def test_interrupt_does_not_stop_workers(make_set) -> None:
    loader = training_loader(ImageDataset(make_set(4)), 2, seed=0, num_workers=1)
    next(loader)
    (worker,) = multiprocessing.active_children()
    time.sleep(0.2)
    os.kill(worker.pid, signal.SIGINT)
    time.sleep(0.2)
    assert len(list(itertools.islice(loader, 10))) == 10
    loader.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, r"batch_size must be at least 1 \(0\)"),
        ({"seed": -1}, r"seed must be at least 0 \(-1\)"),
        ({"start": -1}, r"start must be at least 0 \(-1\)"),
        ({"num_workers": -1}, r"num_workers must be at least 0 \(-1\)"),
        ({"rank": 1}, r"rank must be in 0 to world_size - 1 \(rank 1, world_size 1\)"),
        ({"world_size": 3}, r"batch_size must be divisible by world_size \(4 by 3\)"),
    ],
)
def test_rejects_arguments(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"training_loader: {message}"):
        training_loader(Numbers(10), **{"batch_size": 4, "seed": 0, **options})


def test_rejects_empty_set() -> None:
    with pytest.raises(ValueError, match="dataset must not be empty"):
        training_loader(Numbers(0), 4, seed=0)
