"""Which of a test's cases the quick run takes; `make long` takes the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def sampled(cases: Iterable[Any], quick_cases: Collection[Any]) -> list[Any]:
    """All cases; those that are not among the ones for now are marked long."""
    return [
        case
        if case in quick_cases
        else pytest.param(*_parameter_values(case), marks=pytest.mark.long)
        for case in cases
    ]


def _parameter_values(case: Any) -> tuple[Any, ...]:
    return case if isinstance(case, tuple) else (case,)
