"""Forward passes of the whole StyleGAN2 generator and discriminator against the established form (baseline.py).

    python benchmarks/models.py [--cold] [--resolution 128] [--batch 4]

First the outputs are compared: relative error below 1e-4 in float32. Then native float32, native bfloat16 (autocast) and the baseline in
float32, in both layouts, take turns; the faster layout counts. The table gives the medians in ms, GFLOP/s of the minimal arithmetic
(no zero-inserted pixel is counted), and the ratio to the baseline beside the goal. Without AMX or avx512_bf16 (printed in the head)
bfloat16 convolutions are emulated and slower than float32 ones; the goal for bfloat16 is for machines that have them.
"""

from __future__ import annotations

import functools

import baseline
import harness
import torch

from stylegan_ops.models.stylegan2 import Discriminator, Generator

GOALS = {("G", "float32"): "1.8x", ("G", "bfloat16"): "5.0x"}  # ratios to the float32 baseline


def network(kind: type[torch.nn.Module], resolution: int) -> torch.nn.Module:
    """A network whose biases and noise strengths are not zero, as after training."""
    net = kind(resolution, channel_base=16384).eval().requires_grad_(False)
    for name, p in net.named_parameters():
        if name.endswith(("bias", "noise_strength")):
            p.add_(torch.randn_like(p) * 0.1)
    return net


def flop(net: torch.nn.Module, batch: int) -> float:
    """Multiplications and additions of the convolutions: 2 per weight, sample and pixel, on the side that has fewer pixels."""
    total = 0
    for name, p in net.named_parameters():
        if p.ndim == 4:
            *_, block, layer, _ = name.split(".")
            resolution = int(block[1:])
            halved = layer == "conv0" if name.startswith("synthesis") else layer in ("conv1", "skip")
            total += 2 * batch * p.numel() * (resolution // 2 if halved else resolution) ** 2
    return total


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def autocast(net: torch.nn.Module, x: torch.Tensor) -> harness.Form:
    def form() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return net(x)

    return form


def same_noise(form: harness.Form) -> torch.Tensor:
    torch.manual_seed(1)
    return form()


def rows(name: str, net: torch.nn.Module, plain: type, x: torch.Tensor, seconds: float) -> list[dict]:
    state = dict(net.state_dict())
    forms = {"native float32": lambda: net(x), "native bfloat16": autocast(net, x)}
    for layout, memory_format in harness.LAYOUTS.items():
        forms[f"baseline {layout}"] = functools.partial(plain(state, memory_format), x)
    outputs = {form: same_noise(run) for form, run in forms.items()}
    errors = {form: relative_error(y, outputs["native float32"]) for form, y in outputs.items()}
    worst = max(error for form, error in errors.items() if form.startswith("baseline"))
    if not worst < 1e-4:
        raise SystemExit(f"{name}: native and baseline differ, relative error {worst:.1e}: nothing is timed")

    medians = harness.race(forms, seconds)
    best = min(median for form, median in medians.items() if form.startswith("baseline"))
    work = flop(net, len(x))
    print(f"\n{name} forward, {work / 1e9:.1f} GFLOP; relative error of the baseline {worst:.0e}, bfloat16 {errors['native bfloat16']:.0e}")
    print(f"{'form':<24} {'ms':>8} {'GFLOP/s':>8} {'ratio':>6} {'goal':>6}")
    for form, median in medians.items():
        goal = GOALS.get((name, form.removeprefix("native ")), "")
        print(f"{form:<24} {median * 1e3:8.1f} {work / median / 1e9:8.0f} {best / median:5.2f}x {goal:>6}", flush=True)
    return [{"network": name, "form": form, "seconds": t, "flop": work, "ratio": best / t} for form, t in medians.items()]


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("--resolution", type=int, default=128, help="pixels (default: %(default)s)")
    options.add_argument("--batch", type=int, default=4, help="images (default: %(default)s)")
    options.set_defaults(seconds=20.0)
    options = options.parse_args()
    machine = harness.start(options)
    results = []
    with torch.inference_mode():
        for name, kind, plain in (("G", Generator, baseline.Generator), ("D", Discriminator, baseline.Discriminator)):
            if options.only in name:
                net = network(kind, options.resolution)
                shape = (512,) if name == "G" else (3, options.resolution, options.resolution)
                results += rows(name, net, plain, torch.randn(options.batch, *shape), options.seconds)
    harness.finish(options, machine, results)


if __name__ == "__main__":
    main()
