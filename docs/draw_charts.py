"""Draw docs/charts/*.svg, the charts of docs/performance.md, from the tables of bench/RESULTS.md.

    python docs/draw_charts.py

tests/site/test_site_charts.py compares the files with what this draws.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
CHARTS = HERE / "charts"
RESULTS = HERE.parent / "bench" / "RESULTS.md"

WIDTH, LABELS, RIGHT = 760, 250, 96
BAR, GAP, GROUP_GAP, TOP = 20, 6, 18, 58
COLOURS = {"fasttile": "#00897b", "floor": "#b0bec5"}
OTHER = "#90a4ae"

CASES = {
    "400-rgb": "400 MP TIFF",
    "400-jpeg": "400 MP JPEG",
    "400-jpeg-p3": "400 MP JPEG in Display P3",
    "100-rgb": "100 MP TIFF",
    "100-png-in": "100 MP PNG",
    "100-flat-png": "100 MP drawing, to PNG tiles",
    "25-rgb-png": "25 MP photographs, to PNG tiles",
}
SIZES = {
    "100-rgb": "10,000 × 10,000 TIFF",
    "400-rgb": "20,000 × 20,000 TIFF",
    "400-jpeg": "20,000 × 20,000 JPEG",
    "tall-rgb": "1,000 × 100,000 TIFF",
    "wide-rgb": "100,000 × 1,000 TIFF",
}
PROGRAMS = {
    "fasttile": "fasttile",
    "libvips": "libvips",
    "pil-tiler": "Pillow, by Lanczos",
    "pillow-reduce": "Pillow, reduce(2)",
    "floor": "encoding alone",
}


class Bar(NamedTuple):
    """A bar of a chart: its name, length and text; its program decides its colour."""

    name: str
    value: float
    text: str
    program: str = ""


Groups = list[tuple[str, list[Bar]]]


def main() -> None:
    """Write all charts."""
    CHARTS.mkdir(exist_ok=True)
    for name, text in charts(RESULTS.read_text("utf-8")).items():
        (CHARTS / name).write_text(text, "utf-8")


def charts(results: str) -> dict[str, str]:
    """The charts by their file names.

    Args:
        results: The text of bench/RESULTS.md.
    """
    return {
        "time.svg": bar_chart(
            "Seconds on two processors; shorter is better",
            [(title, list(_times(results, case))) for case, title in CASES.items()],
        ),
        "memory.svg": bar_chart(
            "Largest memory in MB; shorter is better",
            [(title, list(_memory(results, case))) for case, title in SIZES.items()],
        ),
        "main.svg": bar_chart(
            "Times as fast as libvips, by two processors",
            [("", list(_main_ratios(results)))],
        ),
        "batch.svg": bar_chart(
            "100 JPEGs of 17 MP: milliseconds an image", [("", list(_batch(results)))]
        ),
        "xyz.svg": bar_chart(
            "400 MP TIFF to XYZ tiles: seconds, and memory", [("", list(_xyz_tiles(results)))]
        ),
        "cores.svg": bar_chart(
            "400 MP: times as fast as libvips, computed by Amdahl's law",
            [(name, list(_cores(results, name))) for name in ("TIFF", "JPEG")],
        ),
    }


def table(results: str, heading: str, first: str) -> list[dict[str, str]]:
    """The rows of a table, by the names of its columns.

    Args:
        results: The text of bench/RESULTS.md.
        heading: The text of the heading, or of a bold line, that is before the table.
        first: The name of its first column.
    """
    marks = rf"^(?:## {re.escape(heading)}|\*\*{re.escape(heading)}.*\*\*)\n"
    begin = re.search(marks, results, re.M)
    assert begin is not None, f"bench/RESULTS.md has no {heading!r}"
    lines = results[begin.end() :].splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {first} |".lstrip()))
    names = _cells(lines[start])
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(dict(zip(names, _cells(line), strict=True)))
    return rows


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _number(text: str) -> float:
    found = re.match(r"[\d,.]+", text)
    assert found is not None, text
    return float(found[0].replace(",", ""))


def _times(results: str, case: str) -> Iterator[Bar]:
    for row in table(results, case, "program"):
        if row["program"] in PROGRAMS and row["program"] != "pil-tiler":
            ratio = re.match(r"[\d.]+", row["ratio"])
            more = f" s, {ratio[0]} times" if ratio and row["program"] != "floor" else " s"
            name = PROGRAMS[row["program"]]
            yield Bar(name, _number(row["seconds"]), row["seconds"] + more, row["program"])


def _memory(results: str, case: str) -> Iterator[Bar]:
    for row in table(results, case, "program"):
        if row["program"] in ("fasttile", "libvips"):
            yield Bar(row["program"], _number(row["peak MB"]), row["peak MB"], row["program"])


def _main_ratios(results: str) -> Iterator[Bar]:
    for row in table(results, "Main ratios, 2026-11-29", "what"):
        what, _, kind = row["what"].partition(": ")
        if kind == "times as fast as libvips":
            name = what if "JPEG" in what else f"{what} TIFF"
            yield Bar(name, _number(row["measured"]), f"{row['measured']} times", "fasttile")


def _batch(results: str) -> Iterator[Bar]:
    for row in table(results, "Batches", ""):
        program, time = row[""], row.get("an image", "")
        if program in PROGRAMS:
            yield Bar(PROGRAMS[program], _number(time), time, program)


def _xyz_tiles(results: str) -> Iterator[Bar]:
    for row in table(results, "20,000 × 20,000 RGB photographs, TIFF → XYZ", "program"):
        program, seconds, peak = row["program"], row["seconds"], row["peak MB"]
        memory = f", {peak} MB" if peak else ""
        yield Bar(program, _number(seconds), f"{seconds} s{memory}", program.split(",")[0])


def _cores(results: str, image: str) -> Iterator[Bar]:
    row = next(
        row
        for row in table(results, "Seconds by processors", "")
        if row[""] == f"{image}: times as fast"
    )
    for processors in ("1", "2", "4", "8", "16", "32"):
        name = f"{processors} processor{'s' if processors != '1' else ''}"
        yield Bar(name, _number(row[processors]), row[processors], "fasttile")


def bar_chart(title: str, groups: Groups) -> str:
    """A chart of horizontal bars from zero, as SVG.

    Args:
        title: Its heading, and the text that screen readers read first.
        groups: A heading, which may be empty, and the bars below it.
    """
    longest = max(bar.value for _, bars in groups for bar in bars)
    scale = (WIDTH - LABELS - RIGHT - 60) / longest
    parts: list[str] = []
    spoken: list[str] = []
    y = TOP
    for heading, bars in groups:
        if heading:
            parts.append(f'<text x="16" y="{y + 4}" class="head">{escape(heading)}</text>')
            y += 16
        for bar in bars:
            parts += _draw_bar(bar, y, max(bar.value * scale, 1))
            y += BAR + GAP
        spoken.append(f"{heading} " + "; ".join(f"{bar.name}: {bar.text}" for bar in bars))
        y += GROUP_GAP
    height = y - GROUP_GAP + 16
    style = (
        "text{font:14px system-ui,sans-serif;fill:#263238}"
        ".head{font-weight:600}.title{font-size:16px;font-weight:600}"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<desc>{escape('. '.join(text.strip() for text in spoken))}</desc>",
            f"<style>{style}</style>",
            f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#fff"/>',
            f'<text x="16" y="30" class="title">{escape(title)}</text>',
            *parts,
            "</svg>\n",
        ]
    )


def _draw_bar(bar: Bar, y: int, length: float) -> list[str]:
    colour = COLOURS.get(bar.program, OTHER)
    middle = y + BAR - 5
    return [
        f'<text x="{LABELS - 8}" y="{middle}" text-anchor="end">{escape(bar.name)}</text>',
        f'<rect x="{LABELS}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>',
        f'<text x="{LABELS + length + 6:.1f}" y="{middle}">{escape(bar.text)}</text>',
    ]


if __name__ == "__main__":
    main()
