"""What was done to a checkpoint's tensors on the way into the models here, or out of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

_SHOWN = 3


def printable(text: str) -> str:
    """A file's own names for a terminal: no control characters and lone surrogates, and not without end."""
    return "".join(c if c.isprintable() else "?" for c in text[:1000])


@dataclass
class Report:
    """The record of one conversion, which `str` lays out in lines.

    Attributes:
        layout: name of the file's layout.
        tensors: how many of its tensors are in use.
        changes: what happened -> "theirs -> ours", one for each tensor: renamed, reshaped, transposed, flipped, shifted (by a constant),
            scaled, estimated (w_avg), drawn (noise that the file lacks), checked (a filter that must be the standard one), ignored.
        notes: what else is worth knowing.
        inexact: why the pictures are not exactly those of the other code, with the size of the error; empty where they are.
    """

    layout: str
    tensors: int = 0
    changes: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    inexact: list[str] = field(default_factory=list)

    def add(self, change: str, what: str) -> None:
        """Note one tensor under a change."""
        self.changes.setdefault(change, []).append(printable(what))

    def lines(self) -> Iterator[str]:
        """One line for each kind of change, with the first few names."""
        yield f"layout: {self.layout}, {self.tensors} tensors"
        for change, names in self.changes.items():
            more = ", ..." if len(names) > _SHOWN else ""
            yield f"{change} {len(names)}: {', '.join(names[:_SHOWN])}{more}"
        yield from self.notes
        yield from (f"inexact: {reason}" for reason in self.inexact)

    def __str__(self) -> str:
        return "\n".join(self.lines())
