"""Stream a data set to the training loop in an order that depends on nothing but (seed, position)."""

import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from stylegan_ops.data.dataset import ImageDataset


def training_loader(
    dataset: ImageDataset, batch_size: int, *, seed: int, start: int = 0, rank: int = 0, world_size: int = 1, num_workers: int = 0
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches in a reproducible order.

    Position p of the stream is image `permutation(seed, p // n)[p % n]` of the n images of `dataset` (mirrored ones included): every
    epoch is another permutation, and batches run on across its end. Global batch k holds positions `start + k * batch_size` and the
    following; process `rank` gets every `world_size`-th of them, from `rank` on.

    Args:
        dataset: what to draw from.
        batch_size: images of one global batch, over all processes.
        seed: of the order, 0 or more.
        start: position to begin at: the number of images that all processes together have already used.
        rank: number of this process.
        world_size: number of processes; must divide `batch_size`.
        num_workers: worker processes that decode; 0 decodes in this one. The batches are the same.

    Returns:
        Iterator of (images, labels): uint8 [b, C, H, W] and float32 [b, c_dim], b = batch_size / world_size.

    Raises:
        ValueError: a number is out of its range; later, from the iterator, an image cannot be decoded.
    """
    for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0), ("start", start, 0), ("num_workers", num_workers, 0)):
        if value < least:
            raise ValueError(f"training_loader: {name} must be at least {least} ({value})")
    if not 0 <= rank < world_size:
        raise ValueError(f"training_loader: rank must be in 0 to world_size - 1 (rank {rank}, world_size {world_size})")
    if batch_size % world_size:
        raise ValueError(f"training_loader: batch_size must be divisible by world_size ({batch_size} by {world_size})")
    if len(dataset) == 0:
        raise ValueError("training_loader: dataset must not be empty")
    loader = torch.utils.data.DataLoader(
        _Batches(dataset),
        sampler=_Order(len(dataset), batch_size, seed, start, rank, world_size),
        batch_size=None,  # an item is a whole batch already
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_ignore_signals,
        generator=torch.Generator(),  # a DataLoader draws a number when it starts: not from the training's random stream
    )
    return _raise_errors(loader)


class _Order(torch.utils.data.Sampler):
    """Yields the indices of one batch after the other, without end."""

    def __init__(self, size: int, batch_size: int, seed: int, start: int, rank: int, world_size: int) -> None:
        self.size, self.batch_size, self.seed, self.start, self.rank, self.world_size = size, batch_size, seed, start, rank, world_size

    def __iter__(self) -> Iterator[list[int]]:
        epoch, order = -1, None
        position = self.start
        while True:
            batch = []
            for p in range(position + self.rank, position + self.batch_size, self.world_size):
                if p // self.size != epoch:
                    epoch = p // self.size
                    order = _permutation(self.seed, epoch, self.size)
                batch.append(int(order[p % self.size]))
            yield batch
            position += self.batch_size


def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    # RandomState, because its streams are the same in every version of NumPy, which a Generator's need not be.
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed, epoch]))).permutation(size)


class _Batches(torch.utils.data.Dataset):
    """Item `[i, j, ...]` is the batch of these images; an error is handed over as an item."""

    def __init__(self, dataset: ImageDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, indices: list[int]) -> Any:
        try:
            images, labels = zip(*[self.dataset[i] for i in indices], strict=True)
        except (ValueError, OSError) as error:
            # Raised in a worker it would reach the user as a traceback inside a message; as a value it can be raised plainly.
            return error
        return torch.stack(images), torch.stack(labels)


def _raise_errors(loader: torch.utils.data.DataLoader) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for batch in loader:
        if isinstance(batch, Exception):
            raise batch
        images, labels = batch
        yield images, labels


def _ignore_signals(worker: int) -> None:
    # Ctrl-C and a job's end reach the whole process group; the main process decides what they mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
