"""The HTML of a notebook's cell, as a browser reads it."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

from PIL import Image


class CellHtml(HTMLParser):
    """What a browser takes from a cell's HTML.

    Attributes:
        images: The attributes of each image.
        text: All text.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def image(self) -> Image.Image:
        """The only image, which is part of the HTML."""
        (image,) = self.images
        start, _, data = (image["src"] or "").partition(";base64,")
        assert start in ("data:image/png", "data:image/jpeg")
        return Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
