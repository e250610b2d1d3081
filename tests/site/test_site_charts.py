"""Charts and commands of docs/performance.md are those of bench/RESULTS.md."""

from __future__ import annotations

import re
import runpy
from xml.etree import ElementTree

import pytest

from support.doc_blocks import DOCS, ROOT, read_page

RESULTS = (ROOT / "bench" / "RESULTS.md").read_text("utf-8")
DRAW = runpy.run_path(str(DOCS / "draw_charts.py"))
CHARTS: dict[str, str] = DRAW["charts"](RESULTS)


def test_each_chart_is_up_to_date() -> None:
    """`python docs/draw_charts.py` writes them again."""
    files = {path.name: path.read_text("utf-8") for path in (DOCS / "charts").iterdir()}
    assert files == CHARTS


def test_the_page_shows_each_chart() -> None:
    page = (DOCS / "performance.md").read_text("utf-8")
    assert sorted(re.findall(r"\(charts/(.*?)\)", page)) == sorted(CHARTS)


def test_each_command_is_one_of_the_results() -> None:
    lines = [
        line for block in read_page("performance.md").blocks for line in block.text.splitlines()
    ]
    assert len(lines) > 6
    for line in lines:
        assert line in RESULTS, line


@pytest.mark.parametrize("name", CHARTS)
def test_lengths_of_bars_are_the_figures(name: str) -> None:
    """Each bar is as long as the figure beside it, and the figure is in the results."""
    svg = ElementTree.fromstring(CHARTS[name])
    space = "{http://www.w3.org/2000/svg}"
    bars = [float(bar.get("width", "")) for bar in svg.findall(f"{space}rect")[1:]]
    texts = [text.text or "" for text in svg.findall(f"{space}text")]
    figures = [text for text in texts if re.match(r"\d[\d.]*( (s|ms|times)|$)", text)][-len(bars) :]
    assert len(figures) == len(bars) >= 3
    values = [float(figure.split()[0]) for figure in figures]
    for bar, value in zip(bars, values, strict=True):
        assert bar / max(bars) == pytest.approx(value / max(values), abs=0.003)
    for figure in figures:
        assert re.search(rf"\| {figure.split()[0]}( ms)? ", RESULTS), figure


def test_a_row_of_the_results_is_the_figure_of_a_chart() -> None:
    assert "| libvips | 12.21 | 15.61 | 32.7 | 4.84 (4.32–5.24) | 140 |" in RESULTS
    assert ">12.21 s, 4.84 times</text>" in CHARTS["time.svg"]
    assert ">140</text>" in CHARTS["memory.svg"]
