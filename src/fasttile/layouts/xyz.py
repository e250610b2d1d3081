"""XYZ: `z/x/y.ext`, rows from the top, as Google's and OpenStreetMap's tiles have it.

Any other naming of the same tiles is a template: `{z}/{y}/{x}`, `{z}-{x}-{y}`, `{quadkey}` …
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from ..errors import OptionError
from ..geometry import Tile
from . import tilesjson
from .square import Square

USUAL = "{z}/{x}/{y}"
_DIGITS = {
    "z": "[0-9]{1,2}",
    "x": "[0-9]{1,13}",
    "y": "[0-9]{1,13}",
    "quadkey": "[0-3]{0,40}",
}
"""The fields of a template, and how their values look."""


@dataclass(frozen=True)
class Xyz(Square):
    """Where XYZ tiles live.

    Args:
        name, pyramid, extension: As for all layouts.
        template: How tiles are named below the folder, without the ending, out of `{z}`, `{x}`,
            `{y}` and `{quadkey}`.
        centre: Whether the picture lies in the middle of the square, not at its top left.

    Raises:
        OptionError: The template does not tell tiles apart, or leads elsewhere.

    Example:
        >>> layout = Xyz.of("map", 1000, 600, "jpg")
        >>> layout.path(Tile(level=10, col=3, row=2))
        'map/2/3/2.jpg'
        >>> Xyz.of("map", 1000, 600, "jpg", template="{z}-{y}-{x}").path(Tile(10, 3, 2))
        'map/2-2-3.jpg'
    """

    kind = "xyz"
    title = "XYZ"

    template: str = USUAL
    centre: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_template(self.template)

    def paths(self, tile: Tile) -> tuple[str, ...]:
        """Where a tile lives."""
        zoom, col, row = self.address(tile)
        key = quadkey(zoom, col, row) if "{quadkey}" in self.template else ""
        where = self.template.format(z=zoom, x=col, y=row, quadkey=key)
        return (f"{self.root}/{where}.{self.extension}",)

    def _tile_named(self, name: str) -> Tile | None:
        found = self._pattern.match(name)
        if found is None:
            return None
        said = found.groupdict()
        if "quadkey" in said:
            return self.tile_of(*_address_of(said["quadkey"]))
        return self.tile_of(*(int(said[field]) for field in ("z", "x", "y")))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """What finds the fields in a tile's name."""
        text, known = "", set()
        for part in re.split(r"(\{\w+\})", self.template):
            field = part.strip("{}")
            if not part.startswith("{"):
                text += re.escape(part)
            elif field in known:
                text += f"(?P={field})"
            else:
                text += f"(?P<{field}>{_DIGITS[field]})"
                known.add(field)
        return re.compile(text + r"\.")

    def descriptors(self) -> dict[str, bytes]:
        """`tiles.json`, in the tiles' folder."""
        template = f"{self.template}.{self.extension}"
        text = tilesjson.text(self, template, "xyz", template=self.template, centre=self.centre)
        return {f"{self.root}/{tilesjson.FILE_NAME}": text}


def quadkey(zoom: int, col: int, row: int) -> str:
    """A digit of 0 to 3 for each zoom, as Bing Maps names tiles; nothing at zoom 0.

    Example:
        >>> quadkey(3, 3, 5)
        '213'
    """
    return "".join(str((col >> bit & 1) + 2 * (row >> bit & 1)) for bit in range(zoom - 1, -1, -1))


def _address_of(key: str) -> tuple[int, int, int]:
    """Zoom, column and row that a quadkey names."""
    col = row = 0
    for digit in map(int, key):
        col, row = 2 * col + digit % 2, 2 * row + digit // 2
    return len(key), col, row


def _check_template(template: str) -> None:
    fields = re.findall(r"\{(.*?)\}", template)
    for field in fields:
        if field not in _DIGITS:
            raise OptionError(
                f"template {template!r}: {{{field}}} is none of {{z}}, {{x}}, {{y}}, {{quadkey}}"
            )
    if "quadkey" not in fields and not {"z", "x", "y"} <= set(fields):
        raise OptionError(f"template {template!r} needs {{z}}, {{x}} and {{y}}, or {{quadkey}}")
    if re.search(r"[{}]", re.sub(r"\{\w+\}", "", template)):
        raise OptionError(f"template {template!r} has a brace without its other half")
    if re.search(r"\}[0-9]*\{", template):
        raise OptionError(f"template {template!r} needs more than digits between its fields")
    parts = template.split("/")
    if "\\" in template or not template.isprintable() or any(p in ("", ".", "..") for p in parts):
        raise OptionError(f"template {template!r} is no path below the tiles' folder")
