"""Where a viewer's own scripts come from: copies that a release carries, or a public CDN."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

From = Literal["bundled", "cdn"]

CDN = "cdn.jsdelivr.net"
PARTS, BUNDLE = "parts", "scripts"


@dataclass(frozen=True)
class Script:
    """One file of an npm package, pinned by its hash.

    Attributes:
        name: What it is called here.
        package, version, path: Which file it is.
        integrity: Its SHA-384, as browsers take it.
    """

    name: str
    package: str
    version: str
    path: str
    integrity: str

    @property
    def url(self) -> str:
        """Where the CDN has the very file of the package."""
        return f"https://{CDN}/npm/{self.package}@{self.version}/{self.path}"

    @property
    def licence_name(self) -> str:
        """What the file with its licence is called here."""
        return f"{self.package}.LICENSE.txt"

    def matches(self, data: bytes) -> bool:
        """Whether these bytes are the file."""
        return integrity(data) == self.integrity

    def bundled(self) -> str | None:
        """The text of the copy beside us, its licence at its head; None where there is none."""
        folder = files(__package__) / BUNDLE
        try:
            data = (folder / self.name).read_bytes()
            licence = (folder / self.licence_name).read_text("utf-8")
        except OSError:
            return None
        if not self.matches(data):  # of another version
            return None
        return f"/*!\n{licence.strip()}\n*/\n{data.decode()}"


def integrity(data: bytes) -> str:
    """The hash of a file, as browsers compare it (W3C Subresource Integrity)."""
    return "sha384-" + base64.b64encode(hashlib.sha384(data).digest()).decode()


@cache
def known_scripts() -> dict[str, Script]:
    """All of them, by their names."""
    said = json.loads((files(__package__) / "scripts.json").read_text("utf-8"))
    return {name: Script(name, **fields) for name, fields in said.items()}


@cache
def part(name: str) -> str:
    """The text of a file of ours that pages are made of."""
    return (files(__package__) / PARTS / name).read_text("utf-8")
