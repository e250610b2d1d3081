"""What docs/SERVING.md says, for the tests to hold the servers to it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from serving_programs import DOCS

SERVING_TEXT = (DOCS / "SERVING.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class HeaderRow:
    """A row of the page's table of headers."""

    suffix: str
    media_type: str
    cache_control: str
    is_compressed: bool


_HEADER_ROW = re.compile(
    r"^\| `(\.\w+)` \| [^|]+ \| `([^`]+)` \| `([^`]+)` \| (yes|no) \|$", re.MULTILINE
)

HEADER_ROWS = {
    ending: HeaderRow(ending, media_type, cache, compressed == "yes")
    for ending, media_type, cache, compressed in _HEADER_ROW.findall(SERVING_TEXT)
}
"""The rows, by the files' ending."""


def json_block(name: str) -> Any:
    """The JSON that the page wants in a file of this name."""
    found = re.search(rf"`{re.escape(name)}`:\n\n```json\n(.*?)```", SERVING_TEXT, re.DOTALL)
    assert found, f"the page has no {name}"
    return json.loads(found[1])
