"""The HTML page of benchmarks/gpu.py: tables, and plots where matplotlib is installed."""

from __future__ import annotations

import base64
import html
import io
import warnings
from collections import defaultdict

STYLE = "body{font:14px sans-serif;margin:2em;max-width:75em} td,th{padding:2px 10px;text-align:right} td:first-child{text-align:left}"


def page(report: dict) -> str:
    """A report as one self-contained page."""
    title = f"stylegan_ops on {report['card']['name']}"
    parts = [f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style><h1>{html.escape(title)}</h1>"]
    parts.append(f"<p>{html.escape(str(report['versions']))}</p>")
    if report["tiny"]:
        parts.append("<p><b>Tiny shapes, on an emulator or for a trial: the times mean nothing.</b></p>")
    wrong = [row for row in report["correctness"] if not row["right"]]
    parts.append(f"<h2>Correctness</h2><p>{len(report['correctness'])} comparisons with float64, {len(wrong)} wrong.</p>")
    parts.append(table(wrong or report["correctness"], ["op", "dtype", "shape", "error", "allowed"]))
    parts.append("<h2>Limits of the card</h2>" + table([report["limits"]], list(report["limits"])))
    parts.append("<h2>Ops</h2>" + plots(report["ops"]))
    rows = [{**row, **{f"{impl} us": seconds * 1e6 for impl, seconds in row["seconds"].items()}} for row in report["ops"]]
    parts.append(table(rows, ["op", "dtype", "layer", "pass", "native us", "reference us", "compiled us", "rate", "share"]))
    if "networks" in report:
        rows = [{**row, **{f"{impl} ms": seconds * 1e3 for impl, seconds in row["seconds"].items()}} for row in report["networks"]]
        parts.append("<h2>Networks</h2>" + table(rows, ["network", "dtype", "resolution", "batch", "native ms", "reference ms"]))
        parts.append(f"<p>CUDA graph of the generator: {html.escape(report['graph'])}</p>")
        parts.append("<h2>Training</h2>" + table(report["training"], list(report["training"][0])))
    return "\n".join(parts) + "\n"


def table(rows: list[dict], columns: list[str]) -> str:
    def cell(value: object) -> str:
        return "" if value is None else f"{value:.4g}" if isinstance(value, float) else html.escape(str(value))

    head = "".join(f"<th>{html.escape(column)}" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell(row.get(column))}" for column in columns) for row in rows)
    return f"<table><tr>{head}{body}</table>"


def plots(rows: list[dict]) -> str:
    """For each op the time of the forward pass over the layers, native against the others."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        warnings.warn("no plots: matplotlib is not installed (pip install matplotlib)", stacklevel=2)
        return "<p>(No plots: matplotlib was not installed.)</p>"
    curves: dict[str, dict[tuple[str, str], list[tuple[str, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["pass"] == "forward":
            for impl, seconds in row["seconds"].items():
                curves[row["op"]][row["dtype"], impl].append((f"{row['layer'][1]}x{row['layer'][2]}²", seconds * 1e6))
    pictures = []
    for op, lines in curves.items():
        figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
        for (dtype, impl), points in lines.items():
            style = {"native": "-", "reference": ":", "compiled": "--"}[impl]
            color = {"float32": "C0", "float16": "C1", "bfloat16": "C2"}[dtype]
            axes.plot(*zip(*points, strict=True), style, color=color, label=f"{dtype} {impl}")
        axes.set(title=op, yscale="log", xlabel="channels x pixels", ylabel="forward, us")
        axes.legend(fontsize=6)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=100)
        plt.close(figure)
        pictures.append(f'<img alt="{html.escape(op)}" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">')
    return "".join(pictures)
