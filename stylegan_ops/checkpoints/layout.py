"""A layout as a table: their name -> our name, and the steps between the two tensors, each with its inverse."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch

from stylegan_ops._pickle_machine import Fault

from .report import Report
from .stored import Stored


@dataclass(frozen=True)
class Step:
    """One change of a tensor, and the way back."""

    change: str
    forward: Callable[[torch.Tensor], torch.Tensor]
    backward: Callable[[torch.Tensor], torch.Tensor]


FLIP = Step("flipped", lambda x: x.flip(2, 3), lambda x: x.flip(2, 3))


def ones(leading: int = 0, trailing: int = 0) -> Step:
    """Theirs has so many more dimensions of length 1 in front and behind."""

    def drop(x: torch.Tensor) -> torch.Tensor:
        if x.ndim < leading + trailing or any(n != 1 for n in (*x.shape[:leading], *x.shape[x.ndim - trailing :])):
            raise Fault(f"must have {leading} dimensions of length 1 in front and {trailing} behind (got shape {list(x.shape)})")
        return x.reshape(x.shape[leading : x.ndim - trailing])

    return Step("reshaped", drop, lambda x: x[(None,) * leading + (...,) + (None,) * trailing])


def flat(ndim: int, theirs: int | None = None) -> Step:
    """Theirs may have any number of further dimensions of length 1 in front; written with `theirs` dimensions in all."""

    def drop(x: torch.Tensor) -> torch.Tensor:
        extra = x.ndim - ndim
        if extra < 0 or any(n != 1 for n in x.shape[:extra]):
            raise Fault(f"must have {ndim} dimensions, and further ones of length 1 in front (got shape {list(x.shape)})")
        return x.reshape(x.shape[extra:])

    return Step("reshaped", drop, lambda x: x[(None,) * ((theirs or ndim) - ndim)])


def plus(number: float) -> Step:
    """Ours is theirs and so much more; each way rounds once."""
    return Step("shifted", lambda x: x + number, lambda x: x - number)


def times(number: float) -> Step:
    """Ours is so many times theirs."""
    return Step("scaled", lambda x: x * number, lambda x: x / number)


Table = dict[str, tuple]  # their name -> (our name, *steps)


def to_ours(
    table: Table, tensors: Mapping[str, Stored], report: Report, constants: Mapping[str, torch.Tensor] | None = None
) -> dict[str, torch.Tensor]:
    """Read the tensors of a table, by our names.

    Args:
        table: the layout.
        tensors: theirs, all of them.
        report: takes what was done.
        constants: filters that theirs holds, once or for every feature map, and ours makes itself, which must be these.

    Raises:
        Fault: a name is missing or is not of the layout, or a tensor does not fit it.
    """
    constants = constants or {}
    check_names(tensors, [*table, *constants])
    check_apart(tensors)
    for name, value in constants.items():
        found = tensors[name].read()
        if found.shape[-value.ndim :] != value.shape or not torch.allclose(found.to(value), value.expand_as(found), rtol=1e-5, atol=1e-7):
            raise Fault(f"{name} in it is another filter than the one this layout is read with")
        report.add("checked", name)
    state = {}
    for theirs, (ours, *steps) in table.items():
        x = tensors[theirs].read()
        if not x.is_floating_point():
            raise Fault(f"{theirs} in it must be floating point ({x.dtype})")
        for step in steps:
            try:
                x = step.forward(x)
            except (Fault, RuntimeError, IndexError) as error:
                raise Fault(f"{theirs} in it {error}") from None
            report.add(step.change, f"{theirs} -> {ours}")
        if theirs != ours:
            report.add("renamed", f"{theirs} -> {ours}")
        state[ours] = x.contiguous()
    report.tensors += len(table)
    return state


def to_theirs(
    table: Table, state: Mapping[str, torch.Tensor], report: Report, constants: Mapping[str, torch.Tensor] | None = None
) -> dict[str, torch.Tensor]:
    """The inverse of `to_ours`; what of `state` the table has no place for is reported as ignored."""
    found = {name: value.clone() for name, value in (constants or {}).items()}
    for theirs, (ours, *steps) in table.items():
        x = state[ours]
        for step in reversed(steps):
            x = step.backward(x)
            report.add(step.change, f"{ours} -> {theirs}")
        if theirs != ours:
            report.add("renamed", f"{ours} -> {theirs}")
        found[theirs] = x.clone(memory_format=torch.contiguous_format)
    for name in sorted(set(state) - {entry[0] for entry in table.values()}):
        if not name.endswith("resample_filter"):
            report.add("ignored", name)
    report.tensors += len(table)
    return found


def check_names(given: Iterable[str], expected: Iterable[str]) -> None:
    """Fault where names are missing or are not of the layout."""
    given, expected = set(given), set(expected)
    if missing := expected - given:
        raise Fault(f"it must have all names of the layout (lacks {len(missing)}: {some(missing)})")
    if others := given - expected:
        raise Fault(f"it must have no other names than the layout's (has {len(others)}: {some(others)})")


def check_apart(tensors: Mapping[str, Stored]) -> None:
    """Fault where tensors lie over each other: each would be read on its own, and take far more memory than the file."""
    taken: dict[int, int] = {}
    for name, x in tensors.items():
        taken[id(x.source)] = taken.get(id(x.source), 0) + x.nbytes
        if x.source is not None and taken[id(x.source)] > x.source_bytes:
            raise Fault(f"tensors in it lie over each other ({name[:100]})")


def some(names: Iterable[str]) -> str:
    """The first three of the names."""
    names = sorted(names)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def numbers(names: Iterable[str], pattern: str) -> list[int]:
    """The different numbers that stand in names where the pattern has its group, in order."""
    return sorted({int(found[1]) for name in names if (found := re.match(pattern, name))})


def count(names: Iterable[str], pattern: str, first: int = 0) -> int:
    """How many numbers stand in names where the pattern has its group.

    Raises:
        Fault: they are not `first` and those that follow, without a gap.
    """
    found = numbers(names, pattern)
    if found != list(range(first, first + len(found))):
        raise Fault(f"its layers are not numbered from {first} without a gap ({pattern})")
    return len(found)


def resolutions(count: int) -> list[int]:
    """So many resolutions from 4 up."""
    if not 1 <= count <= 11:
        raise Fault(f"it must have 1 to 11 resolutions ({count})")
    return [4 << i for i in range(count)]


def part(names: Mapping[str, Stored], prefix: str) -> dict[str, Stored]:
    """Those of a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in names.items() if name.startswith(prefix)}


def without_lod(tensors: Mapping[str, Stored], report: Report, *names: str) -> dict[str, Stored]:
    """Without the level of detail under these names, which must be that of the full size."""
    for name in names:
        if name in tensors:
            if tensors[name].numel() != 1 or float(tensors[name].read()) != 0:
                raise Fault(f"{name} in it must be 0, the full size")
            report.add("checked", name)
    return {name: x for name, x in tensors.items() if name not in names}


def is_state_dict(tree: object) -> bool:
    """Whether it is a dict of tensors alone, at least one."""
    return isinstance(tree, dict) and bool(tree) and all(isinstance(name, str) and isinstance(x, Stored) for name, x in tree.items())
