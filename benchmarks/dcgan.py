"""Trains a small DCGAN with the BCE loss for a given time: what the networks of this package are compared with.

    python benchmarks/dcgan.py DATA --outdir DIR [--minutes 40] [--threads 0] [--seed 0] [--width 64] [--batch 128] [--samples 10000]

DATA is a set that `stylegan-ops dataset` wrote, of 8 pixels or more. Into DIR go log.jsonl (a line every 10 s: kimg, seconds, means of the
losses), grid.png (64 samples), samples.npz (`images`, uint8 [samples, C, H, W]) and result.json (kimg, seconds, peak memory, parameters).

Source: Radford et al., Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks, 2016, sections 3, 4.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from stylegan_ops import keep_freed_memory
from stylegan_ops.data import ImageDataset, training_loader
from stylegan_ops.training.files import atomic_write
from stylegan_ops.training.grids import save_png, tile, to_uint8

Z_DIM = 100
GRID = 64  # images of the grid
LOG_SECONDS = 10


def generator(resolution: int, channels: int, width: int) -> nn.Sequential:
    """z [N, 100, 1, 1] to images [N, C, R, R] in [-1, 1]: transposed convolutions to 4, 8, ..., R pixels, `width` channels at R / 2."""
    widths = _widths(resolution, width)
    layers = [nn.ConvTranspose2d(Z_DIM, widths[0], 4, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
    for before, after in zip(widths, widths[1:], strict=False):
        layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    layers += [nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1), nn.Tanh()]
    return nn.Sequential(*layers).apply(_initialise)


def discriminator(resolution: int, channels: int, width: int) -> nn.Sequential:
    """Images to logits [N, 1]: the generator's mirror image, without batch norm on the first layer."""
    widths = _widths(resolution, width)[::-1]
    layers = [nn.Conv2d(channels, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    for before, after in zip(widths, widths[1:], strict=False):
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]
    layers += [nn.Conv2d(widths[-1], 1, 4), nn.Flatten()]
    return nn.Sequential(*layers).apply(_initialise)


def _widths(resolution: int, width: int) -> list[int]:
    """Channels at 4, 8, ..., `resolution` / 2 pixels."""
    if resolution < 8 or resolution & (resolution - 1):
        raise SystemExit(f"dcgan: DATA must have a power of two from 8 on as resolution ({resolution})")
    return [width * resolution // (2 * side) for side in (4 << k for k in range(resolution.bit_length() - 3))]


def _initialise(module: nn.Module) -> None:
    """Weights from N(0, 0.02), scales of the batch norms from N(1, 0.02)."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)):
        nn.init.normal_(module.weight, 1.0 if isinstance(module, nn.BatchNorm2d) else 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Training:
    """Both networks, their optimisers, and one step."""

    def __init__(self, resolution: int, channels: int, width: int, device: torch.device) -> None:
        self.device = device
        layout = torch.channels_last  # 1.1 times as fast on the CPU
        self.G = generator(resolution, channels, width).to(device, memory_format=layout)
        self.D = discriminator(resolution, channels, width).to(device, memory_format=layout)
        self.optimizers = [torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999), fused=True) for net in (self.G, self.D)]

    def step(self, reals: torch.Tensor) -> dict[str, float]:
        """D on reals against 1 and on fakes against 0, then G on the same fakes against 1; each a binary cross-entropy of D's logits."""
        of_g, of_d = self.optimizers
        reals = reals.to(self.device).float() / 127.5 - 1
        fakes = self.G(torch.randn(len(reals), Z_DIM, 1, 1, device=self.device))

        loss_d = bce(self.D(reals), 1.0) + bce(self.D(fakes.detach()), 0.0)
        of_d.zero_grad(set_to_none=True)
        loss_d.backward()
        of_d.step()

        loss_g = bce(self.D(fakes), 1.0)
        of_g.zero_grad(set_to_none=True)
        loss_g.backward()
        of_g.step()
        return {"loss_D": loss_d.item(), "loss_G": loss_g.item()}

    @torch.inference_mode()
    def sample(self, count: int, batch: int) -> torch.Tensor:
        """uint8 [count, C, R, R]; batch norms use their running averages, so that a sample does not depend on its neighbours."""
        self.G.eval()
        z = torch.randn(count, Z_DIM, 1, 1)
        images = [to_uint8(self.G(part.to(self.device))).cpu() for part in z.split(batch)]
        self.G.train()
        return torch.cat(images)


def bce(logits: torch.Tensor, target: float) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def train(training: Training, data: ImageDataset, log: Path, *, minutes: float, batch: int, seed: int) -> tuple[int, float]:
    """Step until the time is over, at least once; returns (images, seconds)."""
    batches = training_loader(data, batch, seed=seed, num_workers=1)
    images, began, logged, sums, steps = 0, time.monotonic(), 0.0, {}, 0
    bar = tqdm(
        total=minutes,
        bar_format="{percentage:3.0f}%|{bar:20}| {elapsed}<{remaining}{postfix}",
        mininterval=0.5 if sys.stderr.isatty() else 20,  # in a file each state stays
    )
    with closing(batches), bar, open(log, "w", encoding="utf-8") as lines:
        while True:
            for name, value in training.step(next(batches)[0]).items():
                sums[name] = sums.get(name, 0.0) + value
            images, steps, seconds = images + batch, steps + 1, time.monotonic() - began
            done = seconds >= 60 * minutes
            if done or seconds - logged >= LOG_SECONDS:
                means = {name: value / steps for name, value in sums.items()}
                lines.write(json.dumps({"kimg": images / 1000, "seconds": round(seconds, 3), **means}) + "\n")
                lines.flush()
                bar.set_postfix(kimg=images / 1000, **means, refresh=False)
                logged, sums, steps = seconds, {}, 0
            bar.update(min(seconds / 60, minutes) - bar.n)
            if done:
                return images, seconds


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, metavar="DATA", help="zip or folder that `stylegan-ops dataset` wrote")
    parser.add_argument("--outdir", type=Path, required=True, help="folder for what is written, new or empty")
    parser.add_argument("--minutes", type=float, default=40.0, help="of training (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves torch's choice (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights, the latents and the order of the data (default: %(default)s)")
    parser.add_argument("--width", type=int, default=64, help="channels at half the resolution (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=128, help="images of a step (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=10_000, help="images of samples.npz (default: %(default)s)")
    given = parser.parse_args(arguments)
    for name in ("minutes", "width", "batch", "samples"):
        if not getattr(given, name) > 0:
            parser.error(f"--{name} must be above 0 ({getattr(given, name)})")
    for name in ("threads", "seed"):
        if getattr(given, name) < 0:
            parser.error(f"--{name} must be at least 0 ({getattr(given, name)})")
    try:
        data = ImageDataset(given.data)
        given.outdir.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if any(given.outdir.iterdir()):
        parser.error(f"--outdir must be new or empty ({str(given.outdir)!r})")

    keep_freed_memory()
    if given.threads:
        torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    training = Training(data.resolution, data.channels, given.width, device)
    images, seconds = train(training, data, given.outdir / "log.jsonl", minutes=given.minutes, batch=given.batch, seed=given.seed)
    result = {
        "kimg": images / 1000,
        "seconds": round(seconds, 3),
        "seconds_per_kimg": round(1000 * seconds / images, 3),
        "ru_maxrss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),  # the training's: before the samples
        "parameters": {name: sum(p.numel() for p in net.parameters()) for name, net in (("G", training.G), ("D", training.D))},
        "config": {name: str(value) if isinstance(value, Path) else value for name, value in vars(given).items()},
    }
    save_png(given.outdir / "grid.png", tile(training.sample(GRID, given.batch), 8))
    with atomic_write(given.outdir / "samples.npz") as file:
        np.savez(file, images=training.sample(given.samples, given.batch).numpy())
    with atomic_write(given.outdir / "result.json") as file:
        file.write(json.dumps(result, indent=2).encode())
    print(json.dumps({name: result[name] for name in ("kimg", "seconds", "seconds_per_kimg", "ru_maxrss_mb")}))


if __name__ == "__main__":
    main()
