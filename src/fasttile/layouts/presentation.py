"""IIIF Presentation 3: the manifest of an image, and the collection of a batch; no files.

Source: IIIF Presentation API 3.0. Viewers open a manifest, and find the image by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fasttile.errors import SourceError
from fasttile.formats.documents import PARSE_ERRORS, encode_json, parse_json
from fasttile.layouts.iiif import MANIFEST_NAME, Iiif3
from fasttile.storage.paths import tile_media_type

COLLECTION_NAME = "collection.json"
"""The collection of a batch, in the folder of its results."""

CONTEXT = "http://iiif.io/api/presentation/3/context.json"

THUMBNAIL_WIDTH = 200
"""A manifest names the first size that is at least as wide, in pixels, as its thumbnail."""

_RIGHTS = re.compile(
    r"https?://(?:www\.)?(?:(creativecommons\.org)/((?:licenses|publicdomain)/\S+)"
    r"|(rightsstatements\.org)/(?:vocab|page)/(\S+))"
)


@dataclass(frozen=True)
class Description:
    """Texts of an image in its manifest.

    Attributes:
        label: Its title.
        summary: A text of some sentences.
        rights: The address of a licence or statement, as `rights_uri` returns it.
        statements: Texts that viewers have to show: the attribution, a text about rights.
        provider, provider_url: Name and home page of the institution.
        metadata: Further pairs of label and value.
    """

    label: str
    summary: str = ""
    rights: str = ""
    statements: tuple[str, ...] = ()
    provider: str = ""
    provider_url: str = ""
    metadata: tuple[tuple[str, str], ...] = ()


def rights_uri(text: str) -> str | None:
    """The address of a licence as the schema takes it; None for any other text.

    The property `rights` is an identifier, with http, of Creative Commons or RightsStatements.org.

    Example:
        >>> rights_uri("https://creativecommons.org/licenses/by/4.0/")
        'http://creativecommons.org/licenses/by/4.0/'
        >>> rights_uri("© Museum")
    """
    match = _RIGHTS.fullmatch(text.strip())
    if match is None:
        return None
    if match[1]:
        return f"http://{match[1]}/{match[2]}"
    return f"http://{match[3]}/vocab/{match[4]}"


def manifest(layout: Iiif3, description: Description) -> bytes:
    """The manifest of an image: one canvas of its size, painted by its image service.

    Args:
        layout: The image's layout.
        description: Its texts.
    """
    base, (width, height) = layout.base_url, layout.pyramid.size
    canvas = f"{base}/canvas"
    thumbnail = [_image(layout, _thumbnail_size(layout))]
    annotation = {
        "id": f"{base}/annotation",
        "type": "Annotation",
        "motivation": "painting",
        # The largest of the files that have all of the image; viewers take tiles by the service.
        "body": _image(layout, layout.sizes[-1]),
        "target": canvas,
    }
    page = {"id": f"{base}/page", "type": "AnnotationPage", "items": [annotation]}
    content = {
        "@context": CONTEXT,
        "id": f"{base}/{MANIFEST_NAME}",
        "type": "Manifest",
        "label": _text(description.label),
        **_descriptive_members(description, base),
        "thumbnail": thumbnail,
        "items": [
            {
                "id": canvas,
                "type": "Canvas",
                "label": _text(description.label),
                "width": width,
                "height": height,
                "thumbnail": thumbnail,
                "items": [page],
            }
        ],
    }
    return encode_json(content)


def _descriptive_members(description: Description, base: str) -> dict[str, Any]:
    members: dict[str, Any] = {}
    if description.summary:
        members["summary"] = _text(description.summary)
    if description.metadata:
        members["metadata"] = [
            {"label": _text(label), "value": _text(value)} for label, value in description.metadata
        ]
    if description.statements:
        value = _text(*description.statements)
        members["requiredStatement"] = {"label": _text("Attribution"), "value": value}
    if description.rights:
        members["rights"] = description.rights
    if description.provider or description.provider_url:
        url = urlsplit(description.provider_url or base)
        name = description.provider or url.netloc
        # An agent has to have an address: the server's, if there is no other.
        agent: dict[str, Any] = {"id": f"{url.scheme}://{url.netloc}/", "type": "Agent"}
        agent["label"] = _text(name)
        if description.provider_url:
            agent["id"] = description.provider_url
            page = {"id": description.provider_url, "type": "Text", "label": _text(name)}
            agent["homepage"] = [page | {"format": "text/html"}]
        members["provider"] = [agent]
    return members


def _image(layout: Iiif3, size: tuple[int, int]) -> dict[str, Any]:
    """A file that is there, and the service of which viewers get tiles."""
    return {
        "id": layout.image_url(*size),
        "type": "Image",
        "format": tile_media_type(layout.extension),
        "width": size[0],
        "height": size[1],
        "service": [{"id": layout.base_url, "type": "ImageService3", "profile": "level0"}],
    }


def _thumbnail_size(layout: Iiif3) -> tuple[int, int]:
    wide = (size for size in layout.sizes if size[0] >= THUMBNAIL_WIDTH)
    return next(wide, layout.sizes[-1])


def parse_manifest(data: bytes, label: str) -> tuple[Description, dict[str, Any]]:
    """The texts of a manifest as `manifest` writes it, and all of its members.

    Args:
        data: The file.
        label: Its name in messages.

    Raises:
        SourceError: It is no manifest.
    """
    try:
        members = parse_json(data.decode())
        if members["type"] != "Manifest":
            raise ValueError(f"it is a {members['type']}")
        statement = members.get("requiredStatement")
        provider = (members.get("provider") or [{}])[0]
        homepage = (provider.get("homepage") or [{}])[0]
        description = Description(
            label=_first(members["label"]),
            summary=_first(members.get("summary")),
            rights=str(members.get("rights") or ""),
            statements=() if statement is None else tuple(_values(statement["value"])),
            provider=_first(provider.get("label")),
            provider_url=str(homepage.get("id") or ""),
            metadata=tuple(
                (_first(pair["label"]), _first(pair["value"]))
                for pair in members.get("metadata") or ()
            ),
        )
        return description, members
    except PARSE_ERRORS as error:
        fault = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise SourceError(f"{label} is no manifest: {fault}") from error


def collection(
    address: str, label: str, manifests: Iterable[Mapping[str, Any]], older: Mapping[str, Any]
) -> bytes:
    """The collection of manifests.

    Args:
        address: Its address.
        label: Its title.
        manifests: The members of each manifest, in order.
        older: Members of the collection that it replaces: all but the list of manifests is kept.
    """
    items = [
        {key: one[key] for key in ("id", "type", "label", "thumbnail") if key in one}
        for one in manifests
    ]
    content = {"@context": CONTEXT, "id": address, "type": "Collection", "label": _text(label)}
    return encode_json({**content, **older, "id": address, "items": items})


def _text(*values: str) -> dict[str, list[str]]:
    """Texts in a language that is not stated."""
    return {"none": [*values]}


def _values(text: Any) -> list[str]:
    """The texts of the first language of a language map."""
    return [str(value) for value in next(iter(text.values()))] if text else []


def _first(text: Any) -> str:
    return "\n".join(_values(text)[:1])
