"""The part of benchmarks/gpu.py that runs whole networks: forward passes, training steps, a CUDA graph, some steps of a training."""

from __future__ import annotations

import argparse
import itertools

import torch
from gpu_timing import DTYPES, median_seconds, relative_error

from stylegan_ops import use_impl
from stylegan_ops.models.stylegan2 import Discriminator, Generator
from stylegan_ops.training import Processes, TrainingConfig
from stylegan_ops.training.phases import TrainingStep
from stylegan_ops.training.state import TrainingState


def networks(options: argparse.Namespace) -> tuple[list[dict], str]:
    resolution, base, n = (8, 64, 2) if options.tiny else (256, 16384, 8)
    G, D = Generator(resolution, channel_base=base).cuda(), Discriminator(resolution, channel_base=base).cuda()
    z, x = torch.randn(n, 512, device="cuda"), torch.randn(n, 3, resolution, resolution, device="cuda")
    loss = torch.nn.functional.softplus

    def inference(net, x):
        with torch.no_grad():
            return net(x)

    def r1():
        leaf = x.detach().requires_grad_()
        (g,) = torch.autograd.grad(D(leaf).sum(), leaf, create_graph=True)
        g.square().sum().backward()

    steps = {
        "G forward": lambda: inference(G, z),
        "D forward": lambda: inference(D, x),
        "G step": lambda: loss(-D(G(z))).mean().backward(),
        "D step": lambda: loss(-D(x)).mean().backward(),
        "R1 step": r1,
    }
    rows = []
    for dtype_name, (name, step) in itertools.product(DTYPES, steps.items()):
        seconds = {}
        for impl in ("native", "reference"):
            with use_impl(impl), torch.autocast("cuda", DTYPES[dtype_name], enabled=dtype_name != "float32"):
                seconds[impl] = median_seconds(lambda i, step=step: step(), options)
        rows.append({"network": name, "dtype": dtype_name, "resolution": resolution, "batch": n, "seconds": seconds})
        ratio = seconds["reference"] / seconds["native"]
        print(
            f"{name:<10} {dtype_name:<9} {resolution} px, batch {n}: {seconds['native'] * 1e3:8.2f} ms, {ratio:.2f}x the reference",
            flush=True,
        )
    return rows, graph(G, z)


def graph(G: torch.nn.Module, z: torch.Tensor) -> str:
    """Captures the generator's forward pass, replays it on other codes and compares."""
    with torch.inference_mode(), use_impl("native"):
        for _ in range(3):
            G(z, noise_mode="const")
        static, other = z.clone(), torch.randn_like(z)
        try:
            captured = torch.cuda.CUDAGraph()
            with torch.cuda.graph(captured):
                y = G(static, noise_mode="const")
            static.copy_(other)
            captured.replay()
            torch.cuda.synchronize()
        except RuntimeError as error:
            return f"not captured: {str(error).splitlines()[0]}"
        error = relative_error(y, G(other, noise_mode="const").double().cpu())
        return f"captured and replayed, {'equal' if error == 0 else f'relative difference {error:.1e}'}"


def train(options: argparse.Namespace) -> list[dict]:
    """Steps of a real training on noise images, with both implementations."""
    resolution, count = (8, 2) if options.tiny else (128, 50)
    sizes = {"batch_size": 4, "channel_base": 64, "mapping_layers": 2} if options.tiny else {"batch_size": 16}
    rows = []
    for impl in ("native", "reference"):
        config = TrainingConfig.for_resolution(resolution, precision="float32", **sizes)
        data = {"resolution": resolution, "channels": 3, "c_dim": 0, "num_images": 1000}
        step = TrainingStep(TrainingState(config, data, torch.device("cuda")), Processes(torch.device("cuda")))
        images = torch.randint(256, (config.batch_size, 3, resolution, resolution), dtype=torch.uint8)
        with use_impl(impl):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            stats = step(images, torch.zeros(config.batch_size, 0))
            begin.record()
            for _ in range(count):
                stats = step(images, torch.zeros(config.batch_size, 0))
            end.record()
            end.synchronize()
        rate = count * config.batch_size / max(begin.elapsed_time(end) / 1e3, 1e-9)
        rows.append(
            {"impl": impl, "steps": count, "images_per_second": rate, "loss/G": float(stats["loss/G"]), "loss/D": float(stats["loss/D"])}
        )
        print(
            f"training {resolution} px, {impl}: {rate:.1f} images/s, losses G {rows[-1]['loss/G']:.3f}, D {rows[-1]['loss/D']:.3f}",
            flush=True,
        )
    return rows
