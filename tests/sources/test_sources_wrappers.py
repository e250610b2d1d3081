"""Sources over other sources: they have all attributes of their base, and close it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fasttile.abc.source import Metadata, Source, Wrapper
from fasttile.geometry import Region
from fasttile.sources.arrays import ArraySource
from fasttile.sources.conversions import ConvertedSource, CroppedSource, native_order
from fasttile.sources.transforms import FilledSource, OrientedSource
from support.reading import noise

UNUSUAL: dict[str, Any] = {
    "is_cmyk": True,
    "is_mapped": True,
    "random_access": True,
    "preferred_rows": 7,
    "memory_bytes": 12345,
}


@pytest.fixture
def base() -> Source:
    source = ArraySource(noise(20, 30, 4), "base", Metadata("test", notes=("one",)))
    for name, value in UNUSUAL.items():
        setattr(source, name, value)
    return source


def attributes_of(source: Source) -> dict[str, Any]:
    return {name: getattr(source, name) for name in Source.__annotations__}


def test_a_wrapper_has_all_attributes_of_its_base(base: Source) -> None:
    class Plain(Wrapper):
        def rows(self, y0: int, y1: int) -> Any:
            return self._base.rows(y0, y1)

    assert attributes_of(base).items() >= UNUSUAL.items()
    assert attributes_of(Plain(base)) == attributes_of(base)


@pytest.mark.parametrize(
    ("wrap", "changed"),
    [
        (lambda base: CroppedSource(base, Region(1, 2, 3, 4)), {"width": 3, "height": 4}),
        (lambda base: ConvertedSource(base, native_order(4, base.dtype)), {"is_mapped": False}),
        (lambda base: OrientedSource(base, 2), {"is_mapped": False}),
        (
            lambda base: OrientedSource(base, 6),
            {"is_mapped": False, "width": 20, "height": 30, "preferred_rows": 256},
        ),
        (
            lambda base: FilledSource(base, (255, 255, 255)),
            {"is_mapped": False, "random_access": False},
        ),
    ],
)
def test_each_wrapper_changes_only_its_own_attributes(
    base: Source, wrap: Any, changed: dict[str, Any]
) -> None:
    source = wrap(base)
    assert attributes_of(source) == attributes_of(base) | changed
    assert source.metadata.warnings is base.metadata.warnings
    rows = np.array(source.rows(0, 2))
    out = np.empty_like(rows)
    source.read(0, out)
    np.testing.assert_array_equal(rows, out)


def test_notes_of_wrappers_do_not_copy_the_warnings(base: Source) -> None:
    metadata = base.metadata.with_notes(None, "two")
    assert metadata.notes == ("one", "two")
    assert base.metadata.with_notes(None) is base.metadata
    metadata.warnings.add("3 tiles are missing")
    metadata.warnings.add("other")
    metadata.warnings.add("4 tiles are missing", previous="3 tiles are missing")
    assert base.metadata.warnings == ["other", "4 tiles are missing"]
