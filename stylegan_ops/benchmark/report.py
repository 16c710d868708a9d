"""The report of a run as one HTML page that needs nothing else: plots as inline SVG, tables with every row."""

from __future__ import annotations

import math
from collections import defaultdict
from html import escape
from typing import Any

from . import svg
from .cases import FORMS
from .table import amount, over, seconds

Report = dict[str, Any]
Rows = list[dict[str, Any]]  # of Row.as_json

STYLE = """
:root { --ink: #1d2330; --soft: #667085; --grid: #e4e7ec; --paper: #fff; --c0: #2563eb; --c1: #d97706; --c2: #059669; --c3: #9333ea;
  --c4: #dc2626; --c5: #0891b2; --c6: #65a30d; --c7: #be185d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e5e7eb; --soft: #9ca3af; --grid: #333a46; --paper: #14181f; --c0: #60a5fa;
  --c1: #fbbf24; --c2: #34d399; --c3: #c084fc; --c4: #f87171; --c5: #22d3ee; --c6: #a3e635; --c7: #f472b6; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1080px;
  margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.7em; } h2 { margin-top: 2em; border-bottom: 1px solid var(--grid); } h3 { margin-bottom: .3em; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1em; } dt { color: var(--soft); } dd { margin: 0; }
svg { width: 100%; height: auto; display: block; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg text.note { fill: var(--soft); } .grid { stroke: var(--grid); } .mark { stroke: var(--ink); stroke-dasharray: 3 3; }
.line { fill: none; stroke: var(--c); stroke-width: 2; } .roof { fill: none; stroke: var(--ink); stroke-dasharray: 6 4; }
.dot, .bar { fill: var(--c); }
.legend span { margin-right: 1.2em; } .legend i { display: inline-block; width: .8em; height: .8em; margin-right: .4em;
  background: var(--c); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; } td, th { padding: 2px 10px; text-align: right; }
td:first-child, th:first-child { text-align: left; } tr:nth-child(even) td { background: color-mix(in srgb, var(--grid) 40%, transparent); }
details { margin: .6em 0; overflow-x: auto; } summary { cursor: pointer; } p.about { color: var(--soft); max-width: 50em; }
""" + "".join(f".c{i} {{ --c: var(--c{i}); }}" for i in range(8))

COLORS = {form: i for i, form in enumerate(FORMS)}
LIMITS = {"GB/s": "a copy of as many bytes", "GFLOP/s": "a dense 3x3 convolution"}


def page(report: Report) -> str:
    rows: Rows = report["rows"]
    ops, small, models, scaling, training = (
        [row for row in rows if row["section"] == section] for section in ("ops", "small", "models", "scaling", "training")
    )
    title = "stylegan_ops benchmark"
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in report["machine"].items())
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    head += f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
    parts = [f"{head}<body><h1>{title}</h1><dl>{facts}</dl>"]
    parts.append(about("Medians of forms that took turns in one process. A limit was measured in the same rounds as what it limits."))
    for name, draw, some in (
        ("Roofline", roofline, [row for row in ops if row["facts"].get("flop")]),
        ("Operators", shares, ops),
        ("Small tensors", overheads, small),
        ("Networks, forward", durations, models),
        ("Cost against resolution and batch", growth, scaling),
        ("Training", durations, training),
    ):
        if some:
            numbers = "" if draw is roofline else tables(some)
            parts.append(f"<section><h2>{name}</h2>{draw(some)}{numbers}</section>")
    return "\n".join(parts) + "\n</body></html>\n"


def about(words: str) -> str:
    return f'<p class="about">{escape(words)}</p>'


def by_group(rows: Rows) -> dict[str, Rows]:
    groups = defaultdict(list)
    for row in rows:
        groups[row["group"]].append(row)
    return groups


def median(row: dict[str, Any], form: str) -> float:
    return row["values"][form]["median"]


def known_as(form: str, row: dict[str, Any]) -> str:
    """A form's name; the networks' baseline is in float32 where the row has 16 bits."""
    in_float32 = form in ("baseline", "compile") and row["section"] in ("models", "scaling", "training")
    return f"{form} in float32" if in_float32 and row["facts"]["dtype"] in ("bfloat16", "float16") else form


def roofline(rows: Rows) -> str:
    """Arithmetic intensity against the rate, under the ceilings of each dtype: copy bandwidth and the dense convolution."""
    pictures = []
    for dtype in dict.fromkeys(row["facts"]["dtype"] for row in rows):
        mine = [row for row in rows if row["facts"]["dtype"] == dtype]
        colors = {group: i % 8 for i, group in enumerate(by_group(rows))}
        dots = []
        for row in mine:
            flop, moved = row["facts"]["flop"], row["facts"]["bytes"]
            dots.append((flop / moved, flop / median(row, row["main"]) / 1e9, row))
        ceilings = {unit: max((row["limit_rate"] for row in mine if row["unit"] == unit), default=None) for unit in LIMITS}
        copy, dense = ceilings["GB/s"], ceilings["GFLOP/s"]
        low, high = min(x for x, _, _ in dots) / 2, max(x for x, _, _ in dots) * 2
        roof = [(x, y) for x, y in ((low, copy and low * copy), (high, copy and high * copy)) if y]
        if copy and dense:
            ridge = dense / copy
            roof = [(x, x * copy) for x in (low, ridge) if x <= ridge] + [(high, dense)]
        elif dense:
            roof = [(low, dense), (high, dense)]
        ys = [y for _, y, _ in dots] + [y for _, y in roof]
        plot = svg.LogPlot([low, high], ys, "floating-point operations per byte moved", "GFLOP/s")
        plot.path(roof, "roof")
        if copy:
            x = math.sqrt(roof[0][0] * roof[1][0])
            plot.label(x, x * copy, f"copy, {copy:.1f} GB/s ", "end")
        if dense:
            plot.label(high, dense, f"dense 3x3 convolution, {dense:.0f} GFLOP/s", "end")
        for x, y, row in dots:
            plot.dot(x, y, colors[row["group"]], f"{row['group']}: {row['name']}: {y:.3g} GFLOP/s at {x:.2g} flop/byte")
        used = {group: colors[group] for group in by_group(mine)}
        pictures.append(f"<h3>{escape(dtype)}</h3>{plot.picture(f'roofline, {dtype}')}{svg.legend(used)}")
    words = (
        "Each dot is a row, named under the mouse. The line is what the machine reached: memory bandwidth to the left, arithmetic to the "
        "right. Bytes are those of a row's large inputs and outputs, as if each was read or written once. A row above the line has a "
        "cheaper way than the dense convolution: float32, say, on a machine that does not multiply 16 bits."
    )
    return about(words) + "".join(pictures)


def shares(rows: Rows) -> str:
    """Bars of the share of the limit, an op at a time; the first dtype is open, the others fold."""
    pictures = []
    for group, members in by_group(rows).items():
        by_dtype = defaultdict(list)
        for row in members:
            by_dtype[row["facts"]["dtype"]].append(row)
        pictures.append(f"<h3>{escape(group)}</h3>")
        for i, (dtype, some) in enumerate(by_dtype.items()):
            bars = []
            for row in some:
                words = f"{row['share']:.0%}, {row['rate']:.1f} {row['unit']}"
                bars.append((row["name"].replace(f"{dtype} ", ""), row["share"], words, 0))
            full = max(1.0, *(value for _, value, _, _ in bars))
            picture = svg.bars(bars, full, 1.0, f"{group}, {dtype}: share of the limit")
            pictures.append(f"<details{' open' if i == 0 else ''}><summary>{escape(dtype)}</summary>{picture}</details>")
    words = " and ".join(LIMITS[unit] for unit in dict.fromkeys(row["unit"] for row in rows))
    return about(f"The share that a row reaches of its limit: {words}, on this machine in the same rounds.") + "".join(pictures)


def overheads(rows: Rows) -> str:
    """Bars of what a call costs above an empty operator, in microseconds."""
    bars = []
    for row in rows:
        above = (median(row, row["main"]) - median(row, "empty")) * 1e6
        bars.append((f"{row['group'].partition(',')[0]} {row['name']}", max(above, 0), f"{above:.1f} us above an empty operator", 0))
    return svg.bars(bars, max(value for _, value, _, _ in bars) or 1, None, "overhead of calls")


def durations(rows: Rows) -> str:
    """Bars of every form's time, or bytes, a group at a time."""
    pictures = []
    for group, members in by_group(rows).items():
        bars = []
        for row in members:
            for form in row["values"]:
                value = median(row, form)
                ratio = f", {row['ratios'][form]:.2f}x of {row['main']}" if form in row["ratios"] else ""
                bars.append((f"{row['name']}: {known_as(form, row)}", value, amount(value, row["measure"]) + ratio, COLORS.get(form, 7)))
        full = max(value for _, value, _, _ in bars)
        pictures.append(f"<h3>{escape(group)}</h3>{svg.bars(bars, full, None, group)}")
    return "".join(pictures)


def growth(rows: Rows) -> str:
    """Time against pixels and against images, on logarithmic axes."""
    pictures = []
    axes = {"by resolution": ("resolution", "pixels of a side"), "by batch": ("batch", "images")}
    for group, members in by_group(rows).items():
        for kind, (key, label) in axes.items():
            curves = defaultdict(list)
            for row in members:
                if row["facts"]["scaling"] == kind:
                    for form in row["values"]:
                        curves[known_as(form, row), row["facts"]["dtype"]].append((row["facts"][key], median(row, form)))
            if not curves:
                continue
            points = [point for curve in curves.values() for point in curve]
            plot = svg.LogPlot(
                [x for x, _ in points], [y for _, y in points], label, "seconds", height=320, x_ticks=sorted({x for x, _ in points})
            )
            names = {f"{form}, {dtype}": i % 8 for i, (form, dtype) in enumerate(curves)}
            for i, ((form, dtype), curve) in enumerate(curves.items()):
                curve.sort()
                plot.curve(curve, i % 8, [f"{form}, {dtype}, {x}: {seconds(y)}" for x, y in curve])
            pictures.append(f"<h3>{escape(group)}, {kind}</h3>{plot.picture(f'{group}, {kind}')}{svg.legend(names)}")
    return "".join(pictures)


def tables(rows: Rows) -> str:
    """Every row with all its numbers, folded."""
    parts = []
    for group, members in by_group(rows).items():
        main, others = members[0]["main"], list(members[0]["ratios"])
        unit = members[0]["unit"]
        heads = [group, main, "quartiles", "runs", *((unit, "limit", "share") if unit else ())]
        heads += [cell for name in others for cell in ([over(name)] if name == "empty" else [name, "ratio"])] + ["notes"]
        body = []
        for row in members:
            value = row["values"][main]
            low, high = (amount(value[key], row["measure"]) for key in ("low", "high"))
            cells = [row["name"], amount(value["median"], row["measure"]), f"{low} to {high}", str(value["rounds"])]
            if unit:
                limits = (row["limit_rate"], row["share"])
                cells += [f"{row['rate']:.1f}", f"{limits[0]:.1f}", f"{limits[1]:.0%}"]
            for name in others:
                other = median(row, name)
                if name == "empty":
                    cells.append(seconds(value["median"] - other))
                else:
                    cells += [amount(other, row["measure"]), f"{row['ratios'][name]:.2f}x"]
            cells.append(f"baseline: {row['facts']['baseline']}" if row["facts"].get("baseline") else "")
            body.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
        head = "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in heads) + "</tr>"
        parts.append(f"<details><summary>{escape(group)}: the numbers</summary><table>{head}{''.join(body)}</table></details>")
    return "".join(parts)
