"""What docs/SERVING.md says, for the tests to hold the servers to it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from serving_programs import DOCS

PAGE = (DOCS / "SERVING.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Kind:
    """A row of the page's table of headers."""

    ending: str
    type: str
    cache: str
    compressed: bool


_ROW = re.compile(r"^\| `(\.\w+)` \| [^|]+ \| `([^`]+)` \| `([^`]+)` \| (yes|no) \|$", re.MULTILINE)

KINDS = {
    ending: Kind(ending, media_type, cache, compressed == "yes")
    for ending, media_type, cache, compressed in _ROW.findall(PAGE)
}
"""The rows, by the files' ending."""


def block(name: str) -> Any:
    """The JSON that the page wants in a file of this name."""
    found = re.search(rf"`{re.escape(name)}`:\n\n```json\n(.*?)```", PAGE, re.DOTALL)
    assert found, f"the page has no {name}"
    return json.loads(found[1])
