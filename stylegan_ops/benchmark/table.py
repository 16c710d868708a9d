"""The table in the terminal."""

from __future__ import annotations

from .cases import Row

NAME = 54


def seconds(value: float) -> str:
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if value * factor >= 1:
            return f"{value * factor:.2f} {unit}"
    return f"{value * 1e6:.1f} us"


def amount(value: float, measure: str) -> str:
    return seconds(value) if measure == "s" else f"{value / 1e6:.0f} MB"


def head(row: Row) -> str:
    """The line above the rows of a group."""
    limit = {"GB/s": "copy", "GFLOP/s": "dense"}.get(row.unit or "", "")
    text = f"{row.group:<{NAME}} {row.main:>10}"
    if limit:
        text += f" {row.unit:>8} {limit:>8} {'share':>6}"
    return text + "".join(f" {over(name):>18}" for name in row.ratios)


def over(name: str) -> str:
    return "over an empty op" if name == "empty" else name


def line(row: Row) -> str:
    text = f"  {row.name:<{NAME - 2}} {amount(row.values[row.main].median, row.measure):>10}"
    if row.limit is not None:
        text += f" {row.rate:8.1f} {row.limit_rate:8.1f} {row.share:6.0%}"
    for name, ratio in row.ratios.items():
        value = row.values[name].median
        if name == "empty":
            text += f" {seconds(row.values[row.main].median - value):>18}"
        else:
            text += f" {amount(value, row.measure):>10} {ratio:6.2f}x"
    return text


def notes(row: Row) -> list[str]:
    """What was found out on the way to a row."""
    found = [f"baseline: {row.facts['baseline']}"] if row.facts.get("baseline") else []
    errors = row.facts.get("errors", {})
    if errors:
        own = {row.facts["pass"]: errors[row.facts["pass"]]} if row.facts.get("pass") in errors else errors
        found.append("relative error: " + ", ".join(f"{name} {error:.0e}" for name, error in own.items()))
    return found
