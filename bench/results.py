"""One contender's numbers in one case, and what is worked out of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from cases import Contender


@dataclass
class Result:
    """What was measured of one contender in one case.

    Attributes:
        contender: Who.
        seconds: The timed runs, by round.
        cpu: Their processor time in seconds, all threads and processes.
        peak: Peak memory in bytes; 0 where it means nothing.
        tiles, bytes: How many tiles it wrote, and the encoded bytes in them.
        looked_at: How many tiles were compared with the oracle's.
        worst: The largest mean absolute error of these.
        faults: Why no time counts, a line each.
    """

    contender: Contender
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak: int = 0
    tiles: int = 0
    bytes: int = 0
    looked_at: int = 0
    worst: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median of the timed runs, in seconds."""
        return median(self.seconds)

    @property
    def median_cpu(self) -> float:
        """The median of the timed runs' processor time, in seconds."""
        return median(self.cpu)

    def ratios(self, opponent: Result) -> list[float]:
        """This one's time over the opponent's, for each round in which both ran."""
        pairs = zip(self.seconds, opponent.seconds, strict=False)
        return [mine / other for mine, other in pairs]


@dataclass
class CaseResults:
    """All results of one case, by the contender's label."""

    results: dict[str, Result]

    def opponent(self, result: Result) -> Result | None:
        """Whom a contender is held against.

        fasttile on as many processors; fasttile itself on one processor against all of them.
        """
        program, cores = "fasttile", result.contender.cores
        if result.contender.program == program:
            cores = 2
        other = self.results.get(Contender(program, cores).label)
        return None if other is None or other is result or not other.seconds else other

    def ratio(self, label: str) -> float | None:
        """The median ratio of a contender, or None where there is none."""
        result = self.results.get(label)
        opponent = self.opponent(result) if result else None
        if not result or not opponent or not result.seconds:
            return None
        return median(result.ratios(opponent))
