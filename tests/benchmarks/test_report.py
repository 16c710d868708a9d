"""The HTML report: every row is in it, it is well-formed, and it asks for nothing outside itself."""

import re
from html.parser import HTMLParser

import pytest

from stylegan_ops.benchmark import report, svg
from stylegan_ops.benchmark.cases import Row
from stylegan_ops.benchmark.timing import Spread

VOID = {"meta", "line", "circle", "rect", "polyline"}  # the last four close themselves


class Page(HTMLParser):
    """The text in each element, and every attribute that could load something."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.links, self.count = [], [], [], {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href", "data", "action", "poster", "srcset")]
        if tag not in VOID or tag == "circle":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag):
        if tag == "rect":
            return
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def words(self, tag):
        return [data for where, data in self.texts if where == tag]


def spread(value):
    return Spread(value, value * 0.9, value * 1.1, 5)


def everything():
    """One row at least of each kind, with names that HTML must escape."""
    op = {"dtype": "float32", "layout": "contiguous", "pass": "forward", "bytes": 8e6, "flop": 3e6}
    two = {"native": spread(1e-3), "baseline": spread(4e-3)}
    memory = {"amount": 8e6, "unit": "GB/s", "limit": spread(8e-4), "limit_amount": 8e6}
    dense = {"amount": 4e9, "unit": "GFLOP/s", "limit": spread(9e-4), "limit_amount": 4e9}
    rows = [
        Row("ops", "bias_act", "x < y & z, forward, float32", two, **memory, facts=op),
        Row("ops", "bias_act", "x, forward, bfloat16", two, **memory, facts={**op, "dtype": "bfloat16"}),
        Row("ops", "modulated_conv2d", "8 to 8", {"native": spread(2e-3)}, **dense, facts={**op, "flop": 4e9}),
        Row("small", "bias_act, small", "[1, 1, 4, 4]", {**two, "empty": spread(2e-6)}, facts={"dtype": "float32"}),
        Row("small", "pixel_norm, small", "[1, 1, 4, 4]", {"native": spread(1e-6), "empty": spread(2e-6)}, facts={"dtype": "float32"}),
        Row("models", "G forward", "128 px", two, **dense, facts={"dtype": "float32", "baseline": "grouped contiguous"}),
        Row("training", "R1 phase", "128 px", two, facts={"dtype": "float32", "pass": "R1"}),
        Row(
            "training",
            "peak of live tensor bytes",
            "128 px",
            {"native": spread(4e8), "baseline": spread(9e8)},
            "B",
            facts={"dtype": "float32"},
        ),
    ]
    for kind, key, values in (("by resolution", "resolution", (32, 64, 1024)), ("by batch", "batch", (1, 32))):
        for value in values:
            facts = {"dtype": "float32", "scaling": kind, key: value}
            rows.append(Row("scaling", "G forward", f"{kind}: {value}", {"native": spread(value * 1e-3)}, **dense, facts=facts))
    return {"machine": {"processor": "A <B>", "threads": 2, "commit": "abc"}, "rows": [row.as_json() for row in rows]}


def test_every_row_is_in_the_tables():
    made = everything()
    page = Page(report.page(made))
    cells = page.words("td")
    for row in made["rows"]:
        assert row["name"] in cells
        assert row["group"] in page.words("th")
    assert page.open == []
    assert page.words("h2") == [
        "Roofline",
        "Operators",
        "Small tensors",
        "Networks, forward",
        "Cost against resolution and batch",
        "Training",
    ]
    assert page.words("dd") == ["A <B>", "2", "abc"]
    for number in ("1.00 ms", "0.90 ms to 1.10 ms".replace("0.90 ms", "900.0 us"), "4.00x", "80%", "900 MB", "998.0 us", "-1.0 us"):
        assert number in cells, number


def test_every_row_has_its_mark_in_a_plot():
    page = Page(report.page(everything()))
    assert page.count["svg"] == 2 + 3 + 1 + 1 + 2 + 2  # rooflines, shares, small, models, growth, training
    assert page.count["circle"] == 3 + 5  # an op's row, a point of a curve
    assert page.count["rect"] == 3 + 2 + 2 + 4
    says = page.words("title")
    assert any(text.startswith("bias_act: x < y & z") and "0.38 flop/byte" in text for text in says)


def test_the_baseline_beside_16_bits_is_said_to_be_in_float32():
    made = everything()
    made["rows"] = [row for row in made["rows"] if row["section"] in ("models", "ops")]
    assert "baseline in float32" not in report.page(made)
    for row in made["rows"]:
        row["facts"]["dtype"] = "bfloat16"
    assert report.page(made).count("128 px: baseline in float32<") == 1  # not the ops', which is in the row's dtype


def test_nothing_outside_is_asked_for():
    text = report.page(everything())
    assert Page(text).links == []
    assert re.findall(r"https?:|//|url\(|@import|<script|<link|<img|<iframe", text) == []


@pytest.mark.parametrize("section", ["ops", "small", "models", "scaling", "training"])
def test_a_page_of_one_section(section):
    made = everything()
    made["rows"] = [row for row in made["rows"] if row["section"] == section]
    page = Page(report.page(made))
    assert page.open == [] and page.count["svg"] >= 1
    assert {row["name"] for row in made["rows"]} <= set(page.words("td"))


def test_a_page_without_rows_is_a_page():
    assert Page(report.page({"machine": {}, "rows": []})).open == []


def test_a_roofline_of_one_kind_of_ceiling_and_one_point():
    for unit in ("GB/s", "GFLOP/s"):
        made = everything()
        made["rows"] = [row for row in made["rows"] if row["section"] == "ops" and row["unit"] == unit][:1]
        page = Page(report.page(made))
        assert page.count["polyline"] == 1 and page.count["circle"] == 1


def test_a_logarithmic_axis():
    plot = svg.LogPlot([1, 1000], [1e-3, 10], "x", "y", width=720, height=400)
    assert plot.x(1) < plot.x(10) < plot.x(1000) <= 720 - svg.RIGHT and plot.x(1) >= svg.LEFT
    assert plot.x(10) - plot.x(1) == pytest.approx(plot.x(100) - plot.x(10))
    assert plot.y(10) < plot.y(1e-3) <= 400 - svg.BOTTOM
    assert plot._ticks(plot.x_range) == [1, 10, 100, 1000]
    assert svg.LogPlot([5, 5], [1, 1], "x", "y", width=720).x(5) == pytest.approx((svg.LEFT + 720 - svg.RIGHT) / 2)
    ticked = svg.LogPlot([32, 1024], [1, 2], "x", "y", x_ticks=[32, 1024]).picture("")
    assert ">32<" in ticked and ">1024<" in ticked and ">100<" not in ticked
    assert [svg.short(value) for value in (0.5, 32, 1024, 2e6)] == ["0.5", "32", "1.02k", "2M"]
