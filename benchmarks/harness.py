"""What all benchmarks share: options, timing in alternating rounds, the machine's limit in the same run, the table.

The forms of a case (native, its limit, the reference) take turns, A B C A B C ..., in one process, and each row is a median: what else the
machine does then hits all of them. A row of a memory-bound op has `y.copy_(x)` as its limit, on buffers that hold as many bytes together
as the op reads and writes; a row of a convolution has one dense convolution of PyTorch with the same arithmetic.

Every fresh output costs page faults unless freed memory is kept: `stylegan_ops.keep_freed_memory()` is called first, except with --cold.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import stylegan_ops

Form = Callable[[], object]
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Case:
    """One row: `work` in bytes or floating-point operations, as `unit` says, and three forms of the same work."""

    work: float
    unit: str  # "GB/s" or "GFLOP/s"
    native: Form
    reference: Form
    limit: Form


@dataclass(frozen=True)
class Result:
    """Medians of one row in seconds, and the rates that follow from them."""

    native: float
    reference: float
    limit: float
    rate: float
    limit_rate: float

    @property
    def share(self) -> float:
        return self.rate / self.limit_rate

    @property
    def ratio(self) -> float:
        return self.reference / self.native


Cases = Iterable[tuple[str, Callable[[], Case]]]  # names, and what builds each case


def race(forms: dict[str, Form], seconds: float, rounds: int = 3) -> dict[str, float]:
    """Median seconds of each form, run in turns for `seconds` and at least `rounds` rounds after a warm-up.

    A form whose single run takes longer than `seconds`, a slow reference, is run once behind its warm-up and then left out.
    """
    for form in forms.values():
        form()
    times = {name: [clock(form)] for name, form in forms.items()}
    turns = [name for name, (first,) in times.items() if first < seconds]
    done, end = 1, time.perf_counter() + seconds
    while turns and (done < rounds or time.perf_counter() < end):
        for name in turns:
            times[name].append(clock(forms[name]))
        done += 1
    return {name: statistics.median(values) for name, values in times.items()}


def clock(form: Form) -> float:
    start = time.perf_counter()
    form()
    return time.perf_counter() - start


@dataclass(frozen=True)
class MemoryBound:
    """One variant of a memory-bound op: `op(x, *parameters, impl=...)`, and how many tensors of x's size each pass reads and writes."""

    op: Callable[..., torch.Tensor]
    parameters: tuple[torch.Tensor, ...] = ()
    forward: float = 2  # x in, y out
    backward: float = 3  # dy and what the derivative is a function of in, dx out


def memory_cases(variants: dict[str, MemoryBound], shape: tuple[int, ...]) -> Cases:
    """The rows of a memory-bound op: dtype x layout x pass x variant, each built when its turn comes to save memory."""
    for dtype, layout, backward, (variant, v) in itertools.product(DTYPES, LAYOUTS, (False, True), variants.items()):
        name = f"{variant}, {'backward' if backward else 'forward'}, {dtype} {layout}"

        def build(dtype=dtype, layout=layout, backward=backward, v=v) -> Case:
            x = torch.randn(shape).to(DTYPES[dtype], memory_format=LAYOUTS[layout])
            form = gradient if backward else forward
            native, reference = (form(v.op, x, *v.parameters, impl=impl) for impl in ("native", "reference"))
            source = torch.ones(int(x.numel() * (v.backward if backward else v.forward)) // 2, dtype=x.dtype)
            target = torch.empty_like(source)
            return Case(2 * source.nbytes, "GB/s", native, reference, lambda: target.copy_(source))

        yield name, build


def forward(op: Callable[..., torch.Tensor], *inputs: torch.Tensor, **kwargs: object) -> Form:
    """The forward pass alone of `op(*inputs)`."""
    return lambda: op(*inputs, **kwargs)


def gradient(op: Callable[..., torch.Tensor], *inputs: torch.Tensor, **kwargs: object) -> Form:
    """The backward pass alone of `op(*inputs)`, with respect to all inputs."""
    leaves = [t.detach().requires_grad_() for t in inputs]
    y = op(*leaves, **kwargs)
    dy = torch.randn_like(y)
    return lambda: torch.autograd.grad(y, leaves, dy, retain_graph=True)


def parser(doc: str) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads that compute (default: %(default)s)")
    options.add_argument("--seconds", type=float, default=1.5, help="seconds per row (default: %(default)s)")
    options.add_argument("--cold", action="store_true", help="leave freed memory to the system, so that outputs cost page faults")
    options.add_argument("--only", default="", metavar="TEXT", help="only the rows whose name contains TEXT")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the rows and the machine into FILE, too")
    return options


def start(options: argparse.Namespace) -> dict[str, object]:
    """Applies the options, prints the machine, and returns it."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    warm = not options.cold and stylegan_ops.keep_freed_memory()
    machine = {
        "processor": processor(),
        "threads": options.threads,
        "matrix_units": {"amx": torch.cpu._is_amx_tile_supported(), "avx512_bf16": torch.cpu._is_avx512_bf16_supported()},
        "kernels": stylegan_ops.build_info()["cpu_variant"],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "stylegan_ops": stylegan_ops.__version__,
        "allocator": "warm" if warm else "cold",
    }
    print(", ".join(f"{key} {value}" for key, value in machine.items() if not isinstance(value, dict)))
    print(", ".join(f"{key}: {'yes' if value else 'no'}" for key, value in machine["matrix_units"].items()))
    return machine


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ", 1)[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        return platform.machine()


def finish(options: argparse.Namespace, machine: dict[str, object], rows: list[dict]) -> None:
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


def measure(case: Case, seconds: float) -> Result:
    medians = race({"native": case.native, "limit": case.limit, "reference": case.reference}, seconds)
    return Result(**medians, rate=case.work / medians["native"] / 1e9, limit_rate=case.work / medians["limit"] / 1e9)


def main(doc: str, cases: Callable[[], Cases]) -> None:
    """Runs a room's benchmark from the command line."""
    options = parser(doc).parse_args()
    machine = start(options)
    print(f"{'case':<58} {'ms':>8} {'rate':>7} {'limit':>7} {'unit':<7} {'share':>6} {'reference':>10} {'ratio':>6}")
    rows = []
    for name, build in cases():
        if options.only in name:
            case = build()
            r = measure(case, options.seconds)
            print(
                f"{name:<58} {r.native * 1e3:8.2f} {r.rate:7.1f} {r.limit_rate:7.1f} {case.unit:<7} {r.share:6.0%}"
                f" {r.reference * 1e3:7.2f} ms {r.ratio:5.1f}x",
                flush=True,
            )
            rows.append({"name": name, "unit": case.unit, **asdict(r), "share": r.share, "ratio": r.ratio})
    finish(options, machine, rows)
