"""Pages as text: sound HTML, names that survive, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import pytest

from fasttile.errors import OptionError
from fasttile.geometry import Pyramid, describe_geometry
from fasttile.layouts import LayoutSpec
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.serve.content import ThumbnailTiles, WallItem, render_wall
from fasttile.viewers import (
    PAGE_LAYOUTS,
    VIEWERS,
    Script,
    build_page,
    content_security_policy,
    fill_template,
    known_scripts,
    read_part,
    script_json,
    to_url,
)

NAMES = [
    "map",
    "with spaces  two",
    "-dash",
    "quote\"s and 'these' `too`",
    "<b>bold",
    "<!-- <script> ]]> &amp; &lt;",
    "100%41#hash?query&a=b;c",
    "ünïcødé 東京 😀 \u202e\u2028",
    "{{title}}{{picture}} $& \\1 \\u003c",
    "tab\tand\nline",
    "back\\slash:colon*",
    "no utf-8 \udcff\udc80",
]

VOID_ELEMENTS = {"meta", "link", "img", "path", "br"}


class ParsedPage(HTMLParser):
    """What a page is made of, and whether all that was opened was closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID_ELEMENTS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID_ELEMENTS:
            assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        for key in filter(None, (*self.open[-1:], self._id)):
            self.texts[key] = self.texts.get(key, "") + text

    @property
    def _id(self) -> str | None:
        return self.elements[-1][1].get("id") if self.elements else None


def make_layout(spelling: str, name: str = "map", **options: Any) -> Any:
    if spelling.startswith("iiif"):
        spelling += ":id=https://example.org/{name}"
    return LayoutSpec.parse(spelling).bind(name, 1000, 600, "jpg", **options)


def write_page(layout: Any, viewer: str = "openseadragon", **options: Any) -> str:
    (text,) = build_page(layout, viewer, **options).values()
    return text.decode()


@pytest.mark.parametrize("viewer", VIEWERS)
@pytest.mark.parametrize("name", NAMES)
def test_any_name_survives(viewer: str, name: str) -> None:
    layout = make_layout("dzi", name)
    files = build_page(layout, f"{viewer}:cdn")
    assert list(files) == [f"{name}.html"]
    found = ParsedPage(files[f"{name}.html"].decode())
    readable = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    assert found.texts["h1"] == readable
    assert found.texts["title"] == f"{readable} – 1,000 × 600 pixels"
    (stage,) = (attrs for _, attrs in found.elements if attrs.get("id") == "stage")
    assert stage["aria-label"] == f"{readable}, 1,000 × 600 pixels"
    (image,) = (attrs for tag, attrs in found.elements if tag == "img")
    assert image["alt"] == readable
    assert image["src"] == f"{to_url(name)}_files/8/0_0.jpg"
    said = json.loads(found.texts["picture"])
    assert said["tiles"]["root"] == f"{to_url(name)}_files"
    assert said["tiles"]["beside"] == f"{readable}_files"


def test_urls_hold_nothing_that_means_something() -> None:
    for name in NAMES:
        assert re.fullmatch(r"(?:[A-Za-z0-9_.~,-]|%[0-9A-F]{2})+", to_url(name))
    assert to_url("no utf-8 \udcff") == "no%20utf-8%20%FF"
    template = "t {z}#/{x}?%{y}"
    said = ParsedPage(write_page(make_layout(f"xyz:template={template}"))).texts["picture"]
    assert json.loads(said)["tiles"]["template"] == "t%20{z}%23/{x}%3F%25{y}"


@pytest.mark.parametrize("viewer", VIEWERS)
@pytest.mark.parametrize("kind", PAGE_LAYOUTS)
def test_a_page_is_one_sound_file(viewer: str, kind: str) -> None:
    text = write_page(make_layout(kind), viewer)
    found = ParsedPage(text)
    assert found.elements[0] == ("html", {"lang": "en"})
    assert not re.search(r"\{\{\w+\}\}", text)
    assert "prefers-color-scheme" in text
    assert "prefers-reduced-motion" in text
    assert all(
        attrs.get("aria-label") and attrs.get("title")
        for tag, attrs in found.elements
        if tag == "button"
    )
    ids = [attrs["id"] for _, attrs in found.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in found.elements:
        assert not any(name.startswith("on") for name in attrs)
        for name in ("src", "href"):
            url = attrs.get(name) or ""
            assert url.startswith(("https://cdn.jsdelivr.net/", "data:", "map")) or not url
    assert build_page(make_layout(kind), viewer) == build_page(make_layout(kind), viewer)


def test_parts_can_stand_in_a_page() -> None:
    names = [path.name for path in (files("fasttile.viewers") / "parts").iterdir()]
    for name in names:
        if name.endswith(".html"):
            continue
        assert not re.search("</?(script|style)|<!--", read_part(name), re.I), name


def test_without_a_copy_nothing_comes_from_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Script, "bundled_text", lambda self: None)
    layout = DeepZoom.from_size("map", 900, 700, "png")
    wall = [WallItem(0, "map", 900, 700, layout, "map_files")]
    pages = [write_page(make_layout("xyz"), viewer) for viewer in VIEWERS]
    pages += [write_page(make_layout("xyz"), "leaflet", in_pmtiles=True)]
    pages += [render_wall("wall", ThumbnailTiles("x", 7, 256, "jpg"), wall).decode()]
    for text in pages:
        assert "class PlainView " in text
        urls = {
            url
            for _, attributes in ParsedPage(text).elements
            for url in (attributes.get("src"), attributes.get("href"))
            if url and not url.startswith("data:")
        }
        assert urls <= {"map/0/0/0.jpg"}  # for browsers without JavaScript
        policy = content_security_policy(text.encode())
        assert "http" not in policy
        assert "'self' data: blob:" in policy


def test_a_script_from_the_network_is_pinned() -> None:
    for viewer, known in VIEWERS.items():
        found = ParsedPage(write_page(make_layout("xyz"), f"{viewer}:cdn"))
        pinned = {
            attrs.get("src") or attrs.get("href"): attrs
            for tag, attrs in found.elements
            if "integrity" in attrs
        }
        scripts = [known_scripts()[name] for name in known.library_files]
        assert list(pinned) == [script.url for script in scripts]
        for script in scripts:
            assert pinned[script.url]["integrity"] == script.integrity
            assert pinned[script.url]["crossorigin"] == "anonymous"


def test_with_a_copy_nothing_comes_from_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Script, "bundled_text", lambda self: f"/* {self.name} itself */")
    for viewer, known in VIEWERS.items():
        text = write_page(make_layout("xyz"), viewer)
        assert "https://" not in text.replace("https://${", "")
        for name in known.library_files:
            assert f"/* {name} itself */" in text
        assert "https://cdn" in write_page(make_layout("xyz"), f"{viewer}:cdn")


def test_a_copy_bears_its_licence() -> None:
    for script in known_scripts().values():
        text = script.bundled_text()
        if text is None:
            pytest.skip("this checkout has no copies; tools/fetch_viewers.py brings them")
        assert "Copyright" in text[:1000]
        assert text.startswith(f"/*!\n{script.package} {script.version} (BSD")


def test_a_copy_of_another_version_is_not_taken() -> None:
    for script in known_scripts().values():
        assert replace(script, integrity="sha384-another").bundled_text() is None


def test_slots_are_filled_once_and_json_cannot_end_its_element() -> None:
    assert fill_template("{{a}} {{b}}", {"a": "{{b}}", "b": r"\1"}) == r"{{b}} \1"
    assert script_json({"a": "</script><!--"}) == '{"a":"\\u003c/script>\\u003c!--"}'


def test_what_is_refused() -> None:
    with pytest.raises(OptionError, match="viewer 'seadragon' is none of openseadragon, open"):
        build_page(make_layout("dzi"), "seadragon")
    with pytest.raises(OptionError, match="leaflet has no parameter 'nonsense'; it has cdn"):
        build_page(make_layout("dzi"), "leaflet:nonsense")
    for viewer in VIEWERS:
        with pytest.raises(OptionError, match="no page shows a pyramidal TIFF: fasttile view"):
            build_page(make_layout("tiff"), viewer)
    with pytest.raises(OptionError, match="no page shows a Zoomify"):
        build_page(make_layout("zoomify"), "leaflet", in_pmtiles=True)


def test_geometry() -> None:
    assert describe_geometry(Pyramid.from_size(1000, 600)) | {"levels": []} == {
        "width": 1000,
        "height": 600,
        "canvas": [1000, 600],
        "place": [0, 0, 1000, 600],
        "tileSize": 254,
        "overlap": 1,
        "levels": [],
    }
    said = describe_geometry(make_layout("gsiv", levels="0-1").pyramid)  # half of the size
    assert (said["width"], said["height"], said["canvas"]) == (500, 300, [512, 512])
    assert said["place"] == [6, 106, 500, 300]
    assert said["levels"] == [[1, 1, 0, 0, 256, 256], [2, 2, 0, 0, 512, 512]]
    assert describe_geometry(make_layout("tms").pyramid)["levels"][2] == [4, 3, 0, 1, 1024, 768]
    assert describe_geometry(make_layout("xyz:centre", levels="0-0").pyramid)["place"] == [
        3,
        53,
        250,
        150,
    ]
    odd = LayoutSpec.parse("xyz:centre").bind("map", 1001, 601, "jpg", levels="0-1")
    assert describe_geometry(odd.pyramid)["place"] == [5.5, 105.5, 500.5, 300.5]
    assert describe_geometry(odd.pyramid)["width"] == 501


def test_names_of_pages_and_titles() -> None:
    text = write_page(make_layout("xyz"), title="A <title>", blank_colour="#ffffff")
    assert ParsedPage(text).texts["h1"] == "A <title>"
    assert json.loads(ParsedPage(text).texts["picture"])["tiles"]["blank"] == "#ffffff"


def test_a_policy_allows_the_page_its_own_scripts_only() -> None:
    (text,) = build_page(make_layout("dzi"), "openseadragon").values()
    said = content_security_policy(text)
    code = text.decode().rpartition('<script type="module">')[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in said
    assert "default-src 'none'" in said
    assert "unsafe-eval" not in said


def test_a_wall_names_its_images() -> None:
    layout = DeepZoom.from_size("a b", 900, 700, "png")
    items = [WallItem(0, name, 900, 700, layout, f"{name}_files") for name in NAMES]
    items.append(WallItem(7, "without tiles", 10, 20))
    text = render_wall("my <wall>", ThumbnailTiles("c & d_files", 7, 256, "jpg"), items).decode()
    found = ParsedPage(text)
    assert found.texts["h1"] == "my <wall>"
    assert found.texts["title"] == "my <wall> – 13 images"
    said = json.loads(found.texts["picture"])
    assert said["root"] == "c%20%26%20d_files"
    assert said["items"][0] == {
        "n": 0,
        "title": "map",
        "width": 900,
        "height": 700,
        "root": "map_files",
        "tileSize": 254,
        "overlap": 1,
        "extension": "png",
    }
    assert said["items"][-1] == {"n": 7, "title": "without tiles", "width": 10, "height": 20}
    with pytest.raises(OptionError, match="has no images"):
        render_wall("empty", ThumbnailTiles("x", 7, 256, "jpg"), [])


@pytest.mark.parametrize("viewer", VIEWERS)
def test_the_policy_names_the_pinned_files_only(viewer: str) -> None:
    ((_, page),) = build_page(make_layout("xyz"), f"{viewer}:cdn").items()
    policy = dict(part.split(maxsplit=1) for part in content_security_policy(page).split("; "))
    files = [known_scripts()[name] for name in VIEWERS[viewer].library_files]
    for name, suffix in (("script-src", ".js"), ("style-src", ".css")):
        allowed = [one for one in policy[name].split() if not one.startswith("'")]
        assert allowed == [file.url for file in files if file.name.endswith(suffix)]
    assert "cdn" not in re.sub(r"https://\S+", "", "; ".join(policy.values()))
