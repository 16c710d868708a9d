"""What the benchmarks are made of: the caller's options, cases that build their forms when their turn comes, and measured rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

from .timing import Form, Spread, clock, race

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Forms of the same work, in the order in which a row shows them; the first one present is what its rate belongs to.
FORMS = {
    "native": "the compiled kernels",
    "baseline": "the established form in plain PyTorch; networks in float32, also beside 16 bits",
    "autocast": "the networks' baseline under autocast to the row's dtype",
    "reference": "the definition in plain PyTorch",
    "compile": "the ops' reference and the networks' baseline under torch.compile",
}
BIG = 1024  # pixels from which one picture at a time is the usual batch, and configuration F has its full width


@dataclass(frozen=True)
class Options:
    """What a caller chooses; None is the section's own default."""

    device: str = "cpu"
    dtypes: tuple[str, ...] | None = None
    compare: tuple[str, ...] = ("native", "baseline")
    resolution: int = 128
    batch: int | None = None
    channel_base: int | None = None
    seconds: float | None = None
    only: str = ""
    warm: bool = True
    scaling: bool = False

    def dtypes_or(self, *default: str) -> tuple[str, ...]:
        return self.dtypes or default

    @property
    def images(self) -> int:
        return self.batch or (1 if self.resolution >= BIG else 4)

    @property
    def width(self) -> int:
        return self.channel_base or (32768 if self.resolution >= BIG else 16384)

    @property
    def allocator(self) -> str:
        return "warm" if self.warm else "cold"


@dataclass(frozen=True)
class Limit:
    """What the machine can do: `form` does `amount` of the work's unit."""

    form: Form
    amount: float


@dataclass(frozen=True)
class Work:
    """A case that is built: forms of the same work, and how much of it there is."""

    forms: dict[str, Form]
    amount: float | None = None  # bytes or floating-point operations of one run, as `unit` says
    unit: str | None = None  # "GB/s" or "GFLOP/s"
    limit: Limit | None = None
    calls: int = 1  # that each form makes when it runs
    facts: dict[str, Any] = field(default_factory=dict)  # found out while building


@dataclass(frozen=True)
class Case:
    """A row to be: built only when its turn comes, to save memory."""

    section: str  # "ops", "small", "models", "scaling" or "training"
    group: str  # the op, the network
    name: str
    build: Callable[[], Work]
    facts: dict[str, Any]
    seconds: float = 1.0  # of measuring, unless the caller says otherwise

    @property
    def title(self) -> str:
        return f"{self.group}: {self.name}"


@dataclass(frozen=True)
class Row:
    """What was measured: a value for each form, the limit's among them under its own name."""

    section: str
    group: str
    name: str
    values: dict[str, Spread]
    measure: str = "s"  # or "B"
    amount: float | None = None
    unit: str | None = None
    limit: Spread | None = None
    limit_amount: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def main(self) -> str:
        return next(name for name in (*FORMS, *self.values) if name in self.values)

    @property
    def rate(self) -> float | None:
        """Of the main form, in 1e9 of the work's unit per second."""
        return self.rate_of(self.main)

    def rate_of(self, form: str) -> float | None:
        return None if self.amount is None else self.amount / self.values[form].median / 1e9

    @property
    def limit_rate(self) -> float | None:
        return None if self.limit is None else self.limit_amount / self.limit.median / 1e9

    @property
    def share(self) -> float | None:
        return None if self.limit is None else self.rate / self.limit_rate

    @property
    def ratios(self) -> dict[str, float]:
        """How many times the main form's value each of the others takes."""
        own = self.values[self.main].median
        return {name: value.median / own for name, value in self.values.items() if name != self.main}

    def as_json(self) -> dict[str, Any]:
        numbers = {"main": self.main, "rate": self.rate, "limit_rate": self.limit_rate, "share": self.share, "ratios": self.ratios}
        return {**asdict(self), **numbers}


def measure(case: Case, options: Options) -> Row:
    work = case.build()
    limit = {} if work.limit is None else {"limit": work.limit.form}
    spreads = race({**work.forms, **limit}, options.seconds or case.seconds, clock(options.device))
    values = {name: spreads[name].divided(work.calls) for name in work.forms}
    amounts = (work.amount, work.unit, spreads.get("limit"), work.limit and work.limit.amount)
    return Row(case.section, case.group, case.name, values, "s", *amounts, facts={**case.facts, **work.facts})


def forward(op: Callable[..., torch.Tensor], *inputs: torch.Tensor, **kwargs: object) -> Form:
    """The forward pass alone of `op(*inputs)`."""

    def run() -> torch.Tensor:
        with torch.no_grad():
            return op(*inputs, **kwargs)

    return run


def gradient(op: Callable[..., torch.Tensor], *inputs: torch.Tensor, **kwargs: object) -> Form:
    """The backward pass alone of `op(*inputs)`, with respect to all inputs."""
    leaves = [t.detach().requires_grad_() for t in inputs]
    y = op(*leaves, **kwargs)
    dy = torch.randn_like(y)
    return lambda: torch.autograd.grad(y, leaves, dy, retain_graph=True)


def op_forms(
    options: Options, op: Callable, baseline: Callable, make: Callable[..., Form], inputs: Sequence[torch.Tensor]
) -> dict[str, Form]:
    """The forms that the caller asks for of an op that takes `impl=`; `make` is `forward`, `gradient` or the like.

    Raises:
        RuntimeError: where the baseline's output is not the op's: of another shape, or further off than the root of the dtype's precision.
    """
    forms: dict[str, Form] = {}
    if "baseline" in options.compare:
        check_same(op(*inputs, impl="native" if "native" in options.compare else "reference"), baseline(*inputs))
    for name in FORMS:
        if name not in options.compare or name == "autocast":
            continue
        if name == "baseline":
            forms[name] = make(baseline, *inputs)
        elif name == "compile":
            torch.compiler.reset()  # each case compiles anew, within torch's limit of recompilations
            forms[name] = make(torch.compile(op, dynamic=False), *inputs, impl="reference")
        else:
            forms[name] = make(op, *inputs, impl=name)
    return forms


def check_same(y: torch.Tensor, other: torch.Tensor) -> None:
    tolerance = max(torch.finfo(y.dtype).eps, torch.finfo(torch.float32).eps) ** 0.5
    error = float((y.double() - other.double()).norm() / y.double().norm()) if y.shape == other.shape else float("inf")
    if not error < tolerance:
        raise RuntimeError(
            f"the baseline does not do the op's work: shapes {tuple(y.shape)} and {tuple(other.shape)}, relative error {error:.1e}"
        )


@dataclass(frozen=True)
class MemoryBound:
    """A variant of a memory-bound op, `op(x, *parameters, impl=...)`.

    The pairs are of the forward and the backward pass: tensors of x's size that it reads and writes, and additions, multiplications and
    functions per element of x. The arithmetic serves the roofline chart alone.
    """

    op: Callable[..., torch.Tensor]
    baseline: Callable[..., torch.Tensor]
    parameters: tuple[torch.Tensor, ...]
    tensors: tuple[float, float]
    arithmetic: tuple[float, float]


SHAPE = (4, 128, 128, 128)


def memory_cases(options: Options, group: str, variants: dict[str, MemoryBound], shape: tuple[int, ...] = SHAPE) -> list[Case]:
    """The rows of a memory-bound op: dtype x layout x pass x variant. Its limit is a copy of as many bytes as it reads and writes."""

    def case(dtype: str, layout: str, backward: bool, variant: str, v: MemoryBound) -> Case:
        def build() -> Work:
            x = torch.randn(shape, device=options.device).to(DTYPES[dtype], memory_format=LAYOUTS[layout])
            parameters = [p.to(options.device) for p in v.parameters]
            source = torch.ones(int(x.numel() * v.tensors[backward]) // 2, dtype=x.dtype, device=options.device)
            target = torch.empty_like(source)
            size = 2 * source.nbytes
            forms = op_forms(options, v.op, v.baseline, gradient if backward else forward, [x, *parameters])
            flop = x.numel() * v.arithmetic[backward]
            return Work(forms, size, "GB/s", Limit(lambda: target.copy_(source), size), facts={"bytes": size, "flop": flop})

        which = "backward" if backward else "forward"
        facts = {"dtype": dtype, "layout": layout, "pass": which, "shape": list(shape), "batch": shape[0], "resolution": shape[2]}
        return Case("ops", group, f"{variant}, {which}, {dtype} {layout}", build, facts)

    dtypes = options.dtypes_or(*DTYPES)
    return [case(*which, *v) for *which, v in itertools.product(dtypes, LAYOUTS, (False, True), variants.items())]


def dense_convolution(dtype: torch.dtype, device: str, n: int = 4, i: int = 256, o: int = 256, size: int = 64, backward=False) -> Limit:
    """The limit of convolutions: PyTorch's dense channels_last 3x3 convolution, and its arithmetic. The backward pass is two of them."""
    x = torch.randn(n, i, size, size, device=device).to(dtype, memory_format=torch.channels_last)
    w = torch.randn(o, i, 3, 3, device=device).to(dtype, memory_format=torch.channels_last)
    form = (gradient if backward else forward)(F.conv2d, x, w, padding=1)
    return Limit(form, 2 * n * i * o * 9 * size**2 * (2 if backward else 1))
