"""Trains every family of networks, and a DCGAN beside them, for the same time at the same time, and compares what they draw.

    python benchmarks/family.py DATA --outdir DIR [--minutes 40] [--threads 1] [--vgg16 PATH] [--samples 5000] [--only NAME,...]

DATA is a set that `stylegan-ops dataset --pyramid` wrote. All trainings run at once, so that whatever else the machine does slows all of
them alike; a second call goes on from the measurements. Into DIR go the runs, family.json, table.md (KID over VGG16 of trained and of
untrained generator, seconds for a thousand images, peak memory) and grids.png (what each draws, side by side).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from stylegan_ops import keep_freed_memory
from stylegan_ops.data import ImageDataset
from stylegan_ops.figures.images import captioned
from stylegan_ops.metrics import VGG16, kid, kid_vgg16, load_vgg16
from stylegan_ops.metrics.features import dataset_features, input_size, vgg16_features
from stylegan_ops.training import latest_checkpoint, load_generator
from stylegan_ops.training.files import atomic_write
from stylegan_ops.training.grids import save_png, tile, to_uint8

# Half the demo's widths, its batches for all. Growing ones pass 4, 8 and 16 px in 28 kimg, in batches as small as at full size: so short a
# training needs steps. The ProGAN's penalty is lazy for the same reason.
TRAIN = ("--preset", "demo", "--channel-base", "512", "--snapshot-minutes", "10", "--workers", "0")
GROWING = ("--stabilize-kimg", "4", "--fade-kimg", "4", "--batch-per-resolution", "4:16,8:16,16:16")
RUNS = {
    "ProGAN": ("--model", "progan", *GROWING, "--r1-interval", "4", "--glr", "0.002", "--dlr", "0.002"),
    "StyleGAN": ("--model", "stylegan", *GROWING),
    "StyleGAN2": ("--g-arch", "skip", "--d-arch", "resnet"),
    "MSG-GAN": ("--g-arch", "msg", "--d-arch", "msg"),
    "DCGAN": (),
}
GRID = 64  # images of each family in the picture


def command(name: str, data: Path, folder: Path, minutes: float, threads: int) -> list[str]:
    """What trains one family."""
    common = [str(data), "--outdir", str(folder), "--minutes", str(minutes), "--threads", str(threads)]
    if name == "DCGAN":
        # Half the paper's width and a quarter of its batch: with so little time, more steps draw better.
        script = Path(__file__).with_name("dcgan.py")
        return [sys.executable, str(script), *common, "--width", "32", "--batch", "32", "--samples", "5000"]
    return [sys.executable, "-m", "stylegan_ops", "train", *common, *TRAIN, *RUNS[name]]


def train(names: list[str], data: Path, outdir: Path, minutes: float, threads: int) -> dict[str, float]:
    """Run the trainings at once; returns each one's peak memory, MB."""
    processes = {}
    for name in names:
        (outdir / name).mkdir(parents=True, exist_ok=True)
        with open(outdir / name / "output.log", "wb") as log:
            # Waiting threads sleep, and the run's folder is one below, since it has to be new.
            line = command(name, data, outdir / name / "run", minutes, threads)
            environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
            process = subprocess.Popen(line, stdout=log, stderr=subprocess.STDOUT, env=environment)
            processes[process.pid] = (name, process)
    peaks = {}
    while processes:
        pid, status, usage = os.wait4(-1, 0)
        name, process = processes.pop(pid)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"family: the training of {name} must succeed, see {str(outdir / name / 'output.log')!r}")
        peaks[name] = usage.ru_maxrss / 1024
        print(f"{name}: trained")
    return peaks


def progress_of(run: Path) -> dict[str, float]:
    """Thousand images, seconds for a thousand over the whole run, and for a thousand of full size at its end."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    if "kimg" in lines[-1]:  # a DCGAN's
        kimg, seconds = lines[-1]["kimg"], lines[-1]["seconds"]
        return {"kimg": kimg, "s_per_kimg": seconds / kimg, "s_per_kimg_full": seconds / kimg}
    kimg, seconds = lines[-1]["images"] / 1000, lines[-1]["seconds"]
    rates = [line["images_per_second"] for line in lines[-20:]]
    return {"kimg": kimg, "s_per_kimg": seconds / kimg, "s_per_kimg_full": 1000 / float(np.median(rates))}


def measure(name: str, run: Path, dataset: ImageDataset, vgg16: str | None, samples: int) -> tuple[dict[str, float], torch.Tensor]:
    """KID of the trained and of the untrained generator, and a grid of what the trained one draws, uint8 [C, H, W]."""
    weights = load_vgg16(vgg16)
    if name == "DCGAN":
        images = torch.from_numpy(np.load(run / "samples.npz")["images"])[:samples]
        network, size = VGG16(weights), input_size(dataset.resolution)
        real = dataset_features(network, weights.sha256, dataset, samples, progress=True)
        values = kid(real, torch.cat([vgg16_features(network, part, size) for part in images.split(32)]))
        return {"kid": values.mean(), "kid_std": values.std()}, tile(images[:GRID], 8)
    G = load_generator(latest_checkpoint(run))
    torch.manual_seed(0)
    untrained = type(G)(**G.init_kwargs).eval().requires_grad_(False)
    found, before = (kid_vgg16(g, dataset, weights, samples=samples, progress=True) for g in (G, untrained))
    with torch.inference_mode():
        z = torch.randn(GRID, G.z_dim, generator=torch.Generator().manual_seed(0))
        # One that did not reach its full size in so short a time is shown enlarged.
        drawn = F.interpolate(to_uint8(G(z, noise_mode="const")), dataset.resolution, mode="nearest")
    return {"kid": found["mean"], "kid_std": found["std"], "kid_untrained": before["mean"]}, tile(drawn, 8)


def table(rows: dict[str, dict[str, float]], minutes: float, samples: int) -> str:
    lines = [
        f"| {minutes:g} minutes each, all at once | KID (`kid_vgg16`, {samples} images) | untrained | kimg seen | s per kimg, whole run "
        "/ at full size | peak memory, MB |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        untrained = f"{row['kid_untrained']:.3f}" if "kid_untrained" in row else "-"
        lines.append(
            f"| {name} | {row['kid']:.4f} +- {row['kid_std']:.4f} | {untrained} | {row['kimg']:.1f} | {row['s_per_kimg']:.1f} / "
            f"{row['s_per_kimg_full']:.1f} | {row['peak_mb']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, metavar="DATA", help="zip or folder that `stylegan-ops dataset --pyramid` wrote")
    parser.add_argument("--outdir", type=Path, required=True, help="folder for what is written")
    parser.add_argument("--minutes", type=float, default=40.0, help="of each training (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each training (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=5000, help="images of either kind for KID (default: %(default)s)")
    parser.add_argument("--vgg16", help="weights of VGG16, as for `stylegan-ops kid`")
    parser.add_argument("--only", default=",".join(RUNS), help="families to train (default: %(default)s)")
    given = parser.parse_args(arguments)
    names = given.only.split(",")
    if unknown := [name for name in names if name not in RUNS]:
        parser.error(f"--only must be of {', '.join(RUNS)} ({', '.join(unknown)})")
    keep_freed_memory()
    given.outdir.mkdir(parents=True, exist_ok=True)
    peaks_file = given.outdir / "peaks.json"
    if not peaks_file.exists():
        peaks = train(names, given.data, given.outdir, given.minutes, given.threads)
        with atomic_write(peaks_file) as file:
            file.write(json.dumps(peaks).encode())
    peaks = json.loads(peaks_file.read_text())
    dataset, rows, grids = ImageDataset(given.data), {}, {}
    for name in names:
        run = given.outdir / name / "run"
        figures, grids[name] = measure(name, run, dataset, given.vgg16, given.samples)
        grids[name] = F.pad(grids[name], (8, 8, 8, 8), value=255)
        rows[name] = {**figures, **progress_of(run), "peak_mb": peaks[name]}
    with atomic_write(given.outdir / "family.json") as file:
        file.write(json.dumps({"minutes": given.minutes, "threads": given.threads, "rows": rows}, indent=2).encode())
    save_png(given.outdir / "grids.png", captioned(torch.stack([*grids.values()])[None], names))
    text = table(rows, given.minutes, given.samples)
    with atomic_write(given.outdir / "table.md") as file:
        file.write(text.encode())
    print(text)


if __name__ == "__main__":
    main()
