"""Manifests and collections of IIIF, as texts; viewers open them in tests/browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fasttile.errors import SourceError
from fasttile.layouts.iiif import Iiif3
from fasttile.layouts.presentation import (
    Description,
    collection,
    manifest,
    parse_manifest,
    rights_uri,
)

MODELS = Path(__file__).resolve().parents[1] / "browser" / "prezi3"
"""iiif-prezi3, whose models are made of the schema of IIIF's validator; setup.sh installs it."""

FULL = Description(
    label="Map of Köln",
    summary="Two lines,\nwith <b>marks</b>",
    rights="http://creativecommons.org/licenses/by/4.0/",
    statements=("Museum", "© 2026"),
    provider="Museum",
    provider_url="https://museum.example/",
    metadata=(("Date", "1890"), ("Maker", "A & B")),
)
DESCRIPTIONS = [
    FULL,
    Description("Plain"),
    replace(FULL, provider=""),
    replace(FULL, provider_url=""),
    replace(FULL, rights="", statements=()),
]


def layout_of(width: int = 5000, height: int = 3000, **options: Any) -> Iiif3:
    options = {"id": "https://example.org/{name}", "manifest": True, **options}
    return Iiif3.from_size("a map", width, height, "jpg", **options)


def check_schema(*texts: bytes) -> None:
    """Fail unless the official schema takes all of these texts."""
    if not (MODELS / "iiif_prezi3").is_dir():
        if os.environ.get("FASTTILE_BROWSER") == "required":
            pytest.fail("FASTTILE_BROWSER=required, but tests/browser/setup.sh has not run")
        pytest.skip("no iiif-prezi3; tests/browser/setup.sh installs it")
    script = (
        "import json, sys, iiif_prezi3 as p\n"
        "for one in json.load(sys.stdin): getattr(p, one['type'])(**one)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=b"[" + b",".join(texts) + b"]",
        env={**os.environ, "PYTHONPATH": str(MODELS)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]


def test_the_schema_takes_them() -> None:
    made = [manifest(layout_of(), one) for one in DESCRIPTIONS]
    made += [manifest(layout_of(*size, thumbnails="90+200"), FULL) for size in ((1, 1), (1, 9000))]
    members = [json.loads(text) for text in made]
    made.append(collection("https://example.org/collection.json", "All", members, {}))
    check_schema(*made)
    for right, wrong in ((b'"http://creative', b'"creative'), (b"Agent", b"Person")):
        with pytest.raises(AssertionError, match="validation error"):
            check_schema(made[0].replace(right, wrong))


def test_a_manifest() -> None:
    found = json.loads(manifest(layout_of(thumbnails="90+240"), FULL))
    base = "https://example.org/a%20map"
    service = [{"id": base, "type": "ImageService3", "profile": "level0"}]
    (canvas,) = found["items"]
    ((annotation,),) = (page["items"] for page in canvas["items"])
    assert found["@context"] == "http://iiif.io/api/presentation/3/context.json"
    assert (found["id"], found["type"]) == (f"{base}/manifest.json", "Manifest")
    assert found["label"] == {"none": ["Map of Köln"]}
    assert found["rights"] == FULL.rights
    assert found["requiredStatement"]["value"] == {"none": ["Museum", "© 2026"]}
    assert found["metadata"][1] == {"label": {"none": ["Maker"]}, "value": {"none": ["A & B"]}}
    assert found["provider"][0]["homepage"][0]["id"] == "https://museum.example/"
    assert (canvas["width"], canvas["height"]) == (5000, 3000)
    assert (annotation["motivation"], annotation["target"]) == ("painting", canvas["id"])
    assert annotation["body"] == {
        "id": f"{base}/full/1250,750/0/default.jpg",
        "type": "Image",
        "format": "image/jpeg",
        "width": 1250,
        "height": 750,
        "service": service,
    }
    thumbnail = found["thumbnail"][0]
    assert (thumbnail["id"], thumbnail["width"]) == (f"{base}/full/240,144/0/default.jpg", 240)


@pytest.mark.parametrize("size", [(1, 1), (1, 9000), (9000, 1), (700, 500), (5000, 3000)])
@pytest.mark.parametrize("thumbnails", ["", "90+200+1600"])
def test_its_images_are_files_of_the_result(size: tuple[int, int], thumbnails: str) -> None:
    layout = layout_of(*size, thumbnails=thumbnails)
    files = {path for tile in layout.pyramid.tiles() for path in layout.paths(tile)}
    files |= {path for image in layout.whole_images() for path in image.paths}
    text = manifest(layout, FULL).decode()
    images = [part.split('"')[0] for part in text.split('"id": "') if "/full/" in part]
    assert len(images) == 3
    for address in images:
        assert address.replace("https://example.org/a%20map/", "a map/") in files
    assert layout.further_files() == ("a map/manifest.json",)


@pytest.mark.parametrize("description", DESCRIPTIONS)
def test_texts_are_read_again(description: Description) -> None:
    found, members = parse_manifest(manifest(layout_of(), description), "it")
    if description.provider_url and not description.provider:
        description = replace(description, provider="museum.example")
    assert found == description
    assert members["type"] == "Manifest"


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"type": "Collection"}', b'{"type": "Manifest"}', b"\xff"]
)
def test_refuses_what_is_no_manifest(data: bytes) -> None:
    with pytest.raises(SourceError, match="it is no manifest: "):
        parse_manifest(data, "it")


def test_what_a_user_adds_to_a_collection_is_kept() -> None:
    members = json.loads(manifest(layout_of(), FULL))
    older = {"label": {"de": ["Alle"]}, "items": [], "summary": {"de": ["…"]}, "id": "x"}
    found = json.loads(collection("https://e.org/collection.json", "All", [members], older))
    assert found["id"] == "https://e.org/collection.json"
    assert (found["label"], found["summary"]) == (older["label"], older["summary"])
    assert [one["id"] for one in found["items"]] == ["https://example.org/a%20map/manifest.json"]
    assert set(found["items"][0]) == {"id", "type", "label", "thumbnail"}


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("http://creativecommons.org/publicdomain/zero/1.0/", None),
        (
            " https://www.creativecommons.org/licenses/by-sa/4.0/deed.de ",
            "licenses/by-sa/4.0/deed.de",
        ),
        (
            "https://rightsstatements.org/page/InC/1.0/",
            "http://rightsstatements.org/vocab/InC/1.0/",
        ),
        ("http://rightsstatements.org/vocab/NoC-US/1.0/", None),
    ],
)
def test_addresses_of_licences(text: str, uri: str | None) -> None:
    expected = text if uri is None else uri
    if not expected.startswith("http"):
        expected = f"http://creativecommons.org/{expected}"
    assert rights_uri(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "CC BY 4.0", "https://creativecommons.org/", "http://example.org/licenses/by/4.0/"),
        "see http://creativecommons.org/licenses/by/4.0/",
        "http://creativecommons.org/licenses/a b",
    ],
)
def test_other_texts_are_no_addresses_of_licences(text: str) -> None:
    assert rights_uri(text) is None
