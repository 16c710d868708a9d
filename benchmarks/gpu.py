"""Everything that can be said of a GPU, in one command and under ten minutes: are the ops right, how fast are they, do graphs capture them.

    python benchmarks/gpu.py [--out gpu-report] [--seconds 0.2] [--only TEXT] [--tiny]

1. Every op against the reference in float64 on the CPU, forward and backward, in float32, float16 and bfloat16.
2. Forward, backward and double backward of every op over StyleGAN2's layer shapes: median of CUDA events over buffers that rotate through
   more than the card's cache, as GB/s or TFLOP/s, as a share of what the card itself reaches in a copy or a dense 3x3 convolution, and
   as a ratio to the plain PyTorch reference and to that reference under torch.compile.
3. Generator and discriminator, forward and training steps, and some steps of a real training with each implementation.
4. A CUDA graph of the generator's forward pass, captured, replayed and compared.

Writes report.json and report.html (with plots where matplotlib is installed) into --out. --tiny takes tiny shapes, few repetitions and no
compiler, for an emulator: its numbers mean nothing. Please send both files of a real card to docs/gpu/.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gpu_networks
import gpu_report
import torch
from gpu_timing import DTYPES, median_seconds, relative_error

import stylegan_ops
from stylegan_ops import adain, bias_act, conv_epilogue, filtered_lrelu, modulated_conv2d, pixel_norm, setup_filter, upfirdn2d

LAYERS = [(4, 512), (16, 512), (64, 512), (128, 256), (256, 128), (512, 64), (1024, 32)]  # resolution, channels
TINY_LAYERS = [(4, 16), (8, 8)]
SAME, UP, DOWN = {"padding": [2, 1, 2, 1]}, {"up": 2, "padding": [2, 1, 2, 1], "gain": 4}, {"down": 2, "padding": 1}


@dataclass(frozen=True)
class Op:
    """A call of an op on a layer of C channels and R x R pixels: `call(*tensors(N, C, R), impl=...)`, the image first.

    `passes` is how many tensors of the image's size the forward pass reads and writes, or None for a convolution.
    """

    call: Callable[..., torch.Tensor]
    shapes: Callable[[int, int, int], list[tuple[int, ...]]]
    passes: float | None = None
    pixels: float = 1  # of the convolution, as a multiple of the image's: 4 where that is upsampled


def filtered(x: torch.Tensor, f: torch.Tensor, impl: str, **kwargs: object) -> torch.Tensor:
    return upfirdn2d(x, f, impl=impl, **kwargs)


def ops(device: str) -> dict[str, Op]:
    f = setup_filter([1, 3, 3, 1]).to(device)
    low_pass = setup_filter([1, 2, 4, 6, 8, 9, 9, 8, 6, 4, 2, 1]).to(device)

    def layer(x, weight, styles, noise, bias, impl, **kwargs):
        resampling = {"resample_filter": f.to(x.device), **kwargs}
        return modulated_conv2d(x, weight, styles, noise, padding=1, bias=bias, act="lrelu", clamp=256, impl=impl, **resampling)

    def epilogue(y, scale, noise, bias, impl):
        return conv_epilogue(y, scale, noise, None, bias, "lrelu", clamp=256, impl=impl)

    def normalised(x, scale, shift, noise, bias, impl):
        return adain(x, scale, shift, noise, None, bias, "lrelu", impl=impl)

    def alias_free(x, b, impl):
        g = low_pass.to(x.device)
        return filtered_lrelu(x, g, g, b, 2, 2, 11, clamp=256, impl=impl)

    def resample(x, impl, **kwargs):
        return filtered(x, f.to(x.device), impl, **kwargs)

    def image(n, c, r):
        return [(n, c, r, r)]

    def conv(n, c, r, up=1):
        return [(n, c, r, r), (c, c, 3, 3), (n, c), (r * up, r * up), (c,)]

    return {
        "bias_act lrelu": Op(functools.partial(bias_act, act="lrelu", clamp=256), lambda n, c, r: [(n, c, r, r), (c,)], 2),
        "conv_epilogue": Op(epilogue, lambda n, c, r: [(n, c, r, r), (n, c), (n, 1, r, r), (c,)], 2),
        "adain": Op(normalised, lambda n, c, r: [(n, c, r, r), (n, c), (n, c), (n, 1, r, r), (c,)], 3),
        "pixel_norm": Op(pixel_norm, image, 2),
        "upfirdn2d filter": Op(functools.partial(resample, **SAME), image, 2),
        "upfirdn2d up 2": Op(functools.partial(resample, **UP), image, 5),
        "upfirdn2d down 2": Op(functools.partial(resample, **DOWN), image, 1.25),
        "filtered_lrelu": Op(alias_free, lambda n, c, r: [(n, c, r, r), (c,)], 2),
        "modulated_conv2d": Op(layer, conv),
        "modulated_conv2d up 2": Op(functools.partial(layer, up=2, flip_weight=False), functools.partial(conv, up=2), pixels=1),
    }


def tensors(op: Op, n: int, c: int, r: int, dtype: torch.dtype, device: str) -> list[torch.Tensor]:
    """The image in `dtype` and channels_last, the small operands in float32, as training has them."""
    first, *rest = op.shapes(n, c, r)
    image = torch.randn(first, device=device).to(dtype, memory_format=torch.channels_last)
    return [image, *(torch.randn(shape, device=device) for shape in rest)]


# 1. Right?


def check(options: argparse.Namespace) -> list[dict]:
    rows = []
    layers = [(7, 5)] if options.tiny else [(7, 5), (33, 48), (64, 128)]
    for (name, op), (dtype_name, dtype), (r, c) in itertools.product(ops("cuda").items(), DTYPES.items(), layers):
        if options.only not in name:
            continue
        inputs = tensors(op, 2, c, r, dtype, "cuda")
        found = [t.clone().requires_grad_() for t in inputs]
        exact = [t.detach().double().cpu().requires_grad_() for t in inputs]
        y, truth = op.call(*found, impl="native"), op.call(*exact, impl="reference")
        dy = torch.randn_like(truth).to(dtype)
        got = [y, *torch.autograd.grad(y, found, dy.cuda())]
        wanted = [truth, *torch.autograd.grad(truth, exact, dy.double())]
        error = max(map(relative_error, got, wanted))
        allowed = 1e-4 if dtype == torch.float32 else 30 * torch.finfo(dtype).eps  # TF32 is off; the op tests have the derived bounds
        rows.append({"op": name, "dtype": dtype_name, "shape": [2, c, r, r], "error": error, "allowed": allowed, "right": error <= allowed})
        print(
            f"{name:<24} {dtype_name:<9} {str(rows[-1]['shape']):<18} {error:9.1e} {'right' if error <= allowed else 'WRONG'}", flush=True
        )
    return rows


# 2. Fast?


def rotated(make: Callable[[], list[torch.Tensor]], options: argparse.Namespace) -> list[list[torch.Tensor]]:
    """Sets of buffers that together are larger than the cache of any card, at most 16."""
    first = make()
    size = sum(t.nbytes for t in first)
    return [first, *(make() for _ in range(0 if options.tiny else min(15, 256 * 2**20 // max(size, 1))))]


def forms(op: Op, sets: list[list[torch.Tensor]], impl: str, call: Callable | None = None) -> dict[str, Callable[[int], object]]:
    call = functools.partial(call or op.call, impl=impl)

    def forward(i):
        with torch.no_grad():
            return call(*sets[i % len(sets)])

    graphs = []
    for tensors_ in sets:
        leaves = [t.detach().requires_grad_() for t in tensors_]
        y = call(*leaves)
        graphs.append((leaves, y, torch.randn_like(y)))

    def backward(i):
        leaves, y, dy = graphs[i % len(graphs)]
        return torch.autograd.grad(y, leaves, dy, retain_graph=True)

    seconds = []
    for leaves, y, dy in graphs:
        (dx,) = torch.autograd.grad(y, leaves[:1], dy.requires_grad_(), create_graph=True)
        seconds.append((leaves, dx, dy, torch.randn_like(dx)))

    def double_backward(i):
        leaves, dx, dy, g = seconds[i % len(seconds)]
        return torch.autograd.grad(dx, [dy, *leaves], g, retain_graph=True, allow_unused=True)

    return {"forward": forward, "backward": backward, "double backward": double_backward}


def limits(options: argparse.Namespace) -> dict[str, float]:
    """What the card reaches: GB/s of a copy, and TFLOP/s of a dense 3x3 convolution in each dtype."""
    n = 2**16 if options.tiny else 2**27
    a, b = torch.ones(n, device="cuda"), torch.empty(n, device="cuda")
    found = {"copy": 2 * a.nbytes / median_seconds(lambda i: b.copy_(a), options) / 1e9}
    c, r = (8, 8) if options.tiny else (256, 64)
    for name, dtype in DTYPES.items():
        x = torch.randn(8, c, r, r, device="cuda").to(dtype, memory_format=torch.channels_last)
        w = torch.randn(c, c, 3, 3, device="cuda").to(dtype, memory_format=torch.channels_last)
        seconds = median_seconds(lambda i, x=x, w=w: torch.nn.functional.conv2d(x, w, padding=1), options)
        found[name] = 2 * 9 * c * x.numel() / seconds / 1e12
    print("limits: " + ", ".join(f"{name} {value:.3g} {'GB/s' if name == 'copy' else 'TFLOP/s'}" for name, value in found.items()))
    return found


def race(options: argparse.Namespace, limit: dict[str, float]) -> list[dict]:
    rows = []
    print(f"{'op':<22} {'dtype':<9} {'layer':<11} {'pass':<16} {'us':>9} {'rate':>9} {'share':>9} {'reference':>9} {'compiled':>9}")
    layers = TINY_LAYERS if options.tiny else LAYERS
    for (name, op), (dtype_name, dtype), (r, c) in itertools.product(ops("cuda").items(), DTYPES.items(), layers):
        if options.only not in name:
            continue
        n = 2 if options.tiny else 4 if r >= 512 else 8
        sets = rotated(lambda op=op, n=n, c=c, r=r, dtype=dtype: tensors(op, n, c, r, dtype, "cuda"), options)
        timed = {impl: forms(op, sets, impl) for impl in ("native", "reference")}
        if not options.tiny:
            torch._dynamo.reset()
            timed["compiled"] = {"forward": forms(op, sets[:1], "reference", torch.compile(op.call))["forward"]}
        size = sets[0][0].nbytes
        work = op.passes * size if op.passes else 2 * 9 * c * sets[0][0].numel() * op.pixels
        for kind in timed["native"]:
            seconds = {impl: median_seconds(by_kind[kind], options) for impl, by_kind in timed.items() if kind in by_kind}
            rate = work / seconds["native"] / (1e9 if op.passes else 1e12) if kind == "forward" else None
            share = None if rate is None else rate / limit["copy" if op.passes else dtype_name]
            ratios = {impl: seconds[impl] / seconds["native"] for impl in seconds if impl != "native"}
            rows.append(
                {"op": name, "dtype": dtype_name, "layer": [n, c, r, r], "pass": kind, "seconds": seconds, "rate": rate, "share": share}
            )
            columns = [f"{seconds['native'] * 1e6:.1f}", "" if rate is None else f"{rate:.4g}", "" if share is None else f"{share:.0%}"]
            columns += [f"{ratio:.2f}x" for ratio in ratios.values()]
            print(f"{name:<22} {dtype_name:<9} {f'{c} x {r}^2':<11} {kind:<16} " + " ".join(f"{c:>9}" for c in columns), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("gpu-report"), help="folder for report.json and report.html (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=0.1, help="time of each measurement, in seconds (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="ops whose name contains TEXT, and no networks")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, for an emulator")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("needs a CUDA device; torch.cuda.is_available() is False")
    if not stylegan_ops.build_info()["libraries"]["cuda"]["loaded"]:
        parser.error("the CUDA library is not loaded; `stylegan-ops doctor` says why and what mends it")
    torch.manual_seed(0)
    torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "ieee"
    properties = torch.cuda.get_device_properties(0)
    card = {
        "name": properties.name,
        "capability": list(torch.cuda.get_device_capability()),
        "multiprocessors": properties.multi_processor_count,
    }
    versions = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "stylegan_ops": stylegan_ops.__version__,
    }
    print(f"{card['name']}, torch {versions['torch']}, stylegan_ops {versions['stylegan_ops']}")
    report = {"card": card, "versions": versions, "tiny": options.tiny, "correctness": check(options), "limits": limits(options)}
    report["ops"] = race(options, report["limits"])
    if not options.only:
        report["networks"], report["graph"] = gpu_networks.networks(options)
        print(f"CUDA graph of G: {report['graph']}")
        report["training"] = gpu_networks.train(options)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.out / "report.html").write_text(gpu_report.page(report))
    print(f"Report: {options.out / 'report.html'} and report.json")
    raise SystemExit(0 if all(row["right"] for row in report["correctness"]) else 1)


if __name__ == "__main__":
    main()
