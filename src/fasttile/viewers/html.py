"""A page from its parts: what stands in which slot, escaped for the place where it stands."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from .scripts import CDN, From, Script, known_scripts, part

ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" fill="#8a8782">'
    '<path d="M2 9h12v5H2zM4.500 4.500h7v3h-7zM6.500 1.500h3V3h-3z"/></svg>'
)

_SLOT = re.compile(r"\{\{(\w+)\}\}")


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with each `{{slot}}` replaced, once, by its value as it is."""
    return _SLOT.sub(lambda slot: values[slot[1]], template)


def data(value: Any) -> str:
    """A value as JSON that can stand within a script element."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def write(
    title: str,
    size: str,
    described: Mapping[str, Any],
    *,
    library: Sequence[str],
    parts: Sequence[str],
    still: str | None = None,
    more: str = "",
    origin: From | None = None,
) -> bytes:
    """A page.

    Args:
        title: The picture's name.
        size: What is said of its size.
        described: What the page's script gets to know, without where the library comes from.
        library: The viewer's own scripts and style sheets, by name.
        parts: Ours, in order.
        still: The URL of a small picture for browsers without JavaScript.
        more: HTML that stands after the usual elements.
        origin: Where the library comes from. None is the copy beside us, or else the CDN.
    """
    scripts = [known_scripts()[name] for name in library]
    styles = [_element(script, origin) for script in scripts if script.name.endswith(".css")]
    styles += [f"<style>\n{part(name)}</style>" for name in parts if name.endswith(".css")]
    values = {
        "title": html.escape(title),
        "size": html.escape(size),
        "icon": quote(ICON),
        "styles": "\n".join(styles),
        "more": more,
        "still": f'<img src="{html.escape(still)}" alt="{html.escape(title)}">' if still else "",
        "picture": data({**described, "from": CDN}),
        "library": "\n".join(
            _element(script, origin) for script in scripts if script.name.endswith(".js")
        ),
        "code": "".join(part(name) for name in parts if name.endswith(".js")),
    }
    return fill(part("page.html"), values).encode()


def policy(page: bytes) -> str:
    """A Content-Security-Policy for a page of ours: its own scripts, and tiles beside it."""
    inline = [
        found
        for attributes, found in re.findall(r"<script([^>]*)>(.*?)</script>", page.decode(), re.S)
        if "src=" not in attributes and "json" not in attributes
    ]
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in inline
    )
    return (
        f"default-src 'none'; img-src 'self' data: blob:; connect-src 'self'; "
        f"style-src 'unsafe-inline' https://{CDN}; script-src {hashes} https://{CDN}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _element(script: Script, origin: From | None) -> str:
    """The element that brings a script or a style sheet."""
    style = script.name.endswith(".css")
    text = None if origin == "cdn" else script.bundled()
    if text is not None:
        return f"<style>\n{text}</style>" if style else f"<script>\n{text}</script>"
    pinned = f'integrity="{script.integrity}" crossorigin="anonymous" referrerpolicy="no-referrer"'
    if style:
        return f'<link rel="stylesheet" href="{script.url}" {pinned}>'
    return f'<script src="{script.url}" {pinned}></script>'
