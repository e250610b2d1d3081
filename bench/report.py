"""Results as a Markdown report: how it was measured, targets, and a table for each case."""

from __future__ import annotations

import time

from cases import TARGETS, Case, Target
from results import CaseResults, Result

METHOD_TEXT = """
How it was measured. Every row but the floors is one process, timed from fork to exit, its
interpreter's start included; "start" shows how little or much that is. In each case the
programs take turns in one run, with the same input, options and output place. Seconds, and
processor seconds, are medians. A ratio is a program's time over fasttile's on as many
processors in the same round (fasttile on one processor: over fasttile on two), the median of
the rounds with the lowest and highest in brackets: above 1 is slower than fasttile. The machine
may be shared, so ratios are more reliable than seconds. MP/s are megapixels of the image, not
of all levels. The *floors* encode the same tiles, packed beforehand and held in memory, into
memory, on as many threads: *floor* by one call of Pillow's JPEG encoder for a stack of 16 tiles,
with a restart marker after each, *floor-by-tile* by one call of fasttile's codec for each tile
(until 2026-11 the only floor). Their ratio is the share of fasttile's time that encoding alone
would take. *libvips* takes a thread for each processor, *libvips-1-thread* and
*libvips-2-threads* as many as VIPS_CONCURRENCY says, on two processors. The *pil-tiler* does what
openzoom's deepzoom.py does: each level is resized from the full image by Lanczos.

Before a time counts, a run that is not timed is compared: the descriptor, the exact set of
tiles, and of some tiles on every level the size, bands, JPEG quantisation tables and
subsampling, and the pixels against the NumPy oracle's through the same codec. All must be
equal, except that the pure-PIL tiler's levels below full size, being made by Lanczos, may
differ. That same run is sampled for memory, a hundred times a second: the proportional set
sizes (PSS) of all the job's processes, shared memory and unmapped memory files included, or the
kernel's own high-water mark of one process where that is larger, in MB of 10^6 bytes. Output on
tmpfs is not counted.

Input files lie in the page cache. Where output is on disk, the page cache takes the writes:
what is timed is creating and writing the files, not the disk behind. Nothing is dropped from
the cache; dirty pages are synced before each run, outside of the time.
"""


class Report:
    """Collects outcomes, and gives them as text.

    Args:
        command: The command that made the results.
        machine: Lines about what they were measured on.
    """

    def __init__(self, command: str, machine: list[str]) -> None:
        self._command = command
        self._machine = machine
        self._date = time.strftime("%Y-%m-%d")
        self._outcomes: dict[str, tuple[Case, CaseResults]] = {}

    def add(self, case: Case, outcome: CaseResults) -> None:
        """Add what was measured in a case."""
        self._outcomes[case.key] = (case, outcome)

    def text(self) -> str:
        """The report, in Markdown."""
        lines = ["# Results", "", f"Made on {self._date} by", "", f"    {self._command}", ""]
        lines += [f"- {line}" for line in self._machine]
        lines += [METHOD_TEXT, *self._targets()]
        for case, outcome in self._outcomes.values():
            lines += [f"## {case.key}", "", case.title, "", *_case_table(case, outcome), ""]
        return "\n".join(lines)

    def headlines(self) -> str:
        """The targets that were measured, as a Markdown table."""
        return "\n".join(line for line in self._targets() if "| not measured |" not in line)

    def _targets(self) -> list[str]:
        rows = [
            _target_row(target, self._outcomes[target.case][1])
            for target in TARGETS
            if target.case in self._outcomes
        ]
        if not rows:
            return []
        head = ["## Targets", "", "| what | wanted | measured | reached |", "|---|---|---|---|"]
        return [*head, *rows, ""]


def _target_row(target: Target, outcome: CaseResults) -> str:
    found = _measured_value(target, outcome)
    at_most = target.measure == "peak"
    wanted = f"{'≤' if at_most else '≥'} {target.bound:g}"
    if found is None:
        return f"| {target.text} | {wanted} | not measured | |"
    reached = found <= target.bound if at_most else found >= target.bound
    shown = f"{found:.1f}" if at_most else f"{found:.2f}"
    return f"| {target.text} | {wanted} | {shown} | {'yes' if reached else '**no**'} |"


def _measured_value(target: Target, outcome: CaseResults) -> float | None:
    """The number that a target is about, or None where it was not measured."""
    result = outcome.results.get(target.label)
    if result is None or result.faults:
        return None
    if target.measure == "ratio":
        return outcome.ratio(target.label)
    if target.measure == "peak":
        return result.peak / 1e6
    first = next(iter(outcome.results.values()))
    return result.bytes / first.bytes if first.bytes else None


def _case_table(case: Case, outcome: CaseResults) -> list[str]:
    head = ["program", "seconds", "cpu s", "MP/s", "ratio", "peak MB", "tiles MB", "runs"]
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for result in outcome.results.values():
        cells = [result.contender.label, *_result_cells(case, outcome, result)]
        lines.append(f"| {' | '.join(cells)} |")
    for result in outcome.results.values():
        lines += ["", *(f"{result.contender.label}: {fault}" for fault in result.faults[:1])]
    while lines[-1] == "":
        lines.pop()
    return lines


def _result_cells(case: Case, outcome: CaseResults, result: Result) -> list[str]:
    if result.faults or not result.seconds:
        return ["does not count", *[""] * 6]
    return [
        f"{result.median:.2f}",
        f"{result.median_cpu:.2f}",
        f"{case.megapixels / result.median:.3g}",
        _format_ratio(outcome, result),
        f"{result.peak / 1e6:.0f}" if result.peak else "",
        f"{result.bytes / 1e6:.2f}",
        f"{len(result.seconds)}",
    ]


def _format_ratio(outcome: CaseResults, result: Result) -> str:
    opponent = outcome.opponent(result)
    ratio = outcome.ratio(result.contender.label)
    if ratio is None or opponent is None:
        return ""
    ratios = result.ratios(opponent)
    return f"{ratio:.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
