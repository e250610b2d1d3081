"""Where results go: every ending, every layout, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from fasttile.errors import OptionError
from fasttile.jobs.plan import resolve_target
from fasttile.layouts import LAYOUTS

FOLDER_LAYOUTS = [kind for kind in LAYOUTS if kind not in ("dzi", "tiff")]


@pytest.mark.parametrize(
    ("dest", "container", "layout", "path"),
    [
        ("out/x.dzi", "folder", "dzi", "out/x.dzi"),
        ("out/x.szi", "szi", "dzi", "out/x.szi"),
        ("out/x.zip", "zip", "dzi", "out/x.zip"),
        ("x.pmtiles", "pmtiles", "xyz", "x.pmtiles"),
        ("x.mbtiles", "mbtiles", "xyz", "x.mbtiles"),
        ("x.tif", "tiff", "tiff", "x.tif"),
        ("X.TIFF", "tiff", "tiff", "X.tiff"),
        ("{name}.szi", "szi", "dzi", "map 1.szi"),
        ("out/{name}/{name}.dzi", "folder", "dzi", "out/map 1/map 1.dzi"),
    ],
)
def test_the_ending_chooses_container_and_layout(
    dest: str, container: str, layout: str, path: str
) -> None:
    target = resolve_target(dest, "scans/map 1.tif")
    assert (target.container, target.layout.name) == (container, layout)
    assert target.path.as_posix() == path
    assert target.name == Path(path).stem


@pytest.mark.parametrize("kind", FOLDER_LAYOUTS)
def test_other_layouts_are_a_folder_themselves(kind: str, tmp_path: Path) -> None:
    assert resolve_target("site/v", "map.tif", kind).path == Path("site/v")
    assert resolve_target("site/v/", "map.v2.tif", kind).path == Path("site/v/map.v2")
    assert resolve_target("site/v/", "map.v2.tif", kind).name == "map.v2"
    assert resolve_target(None, "scans/map.tif", kind).path == Path("map")
    (tmp_path / "v1.0").mkdir()
    assert resolve_target(tmp_path / "v1.0", "map.tif", kind).path == tmp_path / "v1.0"
    zipped = resolve_target("x.zip", "map.tif", kind)
    assert (zipped.container, zipped.name, zipped.layout.name) == (
        "zip",
        "x",
        kind,
    )


@pytest.mark.parametrize(
    ("dest", "source", "path"),
    [
        ("{name}-{ext}.dzi", "scans/map.v1.TIF", "map.v1-TIF.dzi"),
        ("{parent}/{name}.dzi", "a/b c/map.tif", "b c/map.dzi"),
        ("site/{parent}/", "a/b/map.tif", "site/b/map.dzi"),
        ("{index}.szi", "map.tif", "7.szi"),
        ("{name}-{name}.dzi", "map.tif", "map-map.dzi"),
        ("{{name}}-{name}.dzi", "map.tif", "{name}-map.dzi"),
        ("{name.dzi", "map.tif", "{name.dzi"),
        ("{parent}-{ext}.dzi", "https://h.org/my%20scans/a.jp2?x=1", "my scans-jp2.dzi"),
        ("{parent}.dzi", "https://h.org/%2e%2e/a.jp2", "%2E%2E.dzi"),
        ("{parent}.dzi", "https://h.org/..%2F..%2Fetc/a.jp2", "....etc.dzi"),
        ("{parent}.dzi", "https://h.org/a.jp2", None),
        ("{ext}.dzi", "map", None),
        ("{parent}.dzi", "/map.tif", None),
    ],
)
def test_placeholders(dest: str, source: str, path: str | None) -> None:
    if path is None:
        with pytest.raises(OptionError, match=r"has nothing for \{"):
            resolve_target(dest, source, index=7)
    else:
        assert resolve_target(dest, source, index=7).path.as_posix() == path


@pytest.mark.parametrize("dest", ["{nam}.dzi", "site/{}/", "{Name}.szi", "{page}.dzi", "{{{x}}}/"])
def test_unknown_placeholders(dest: str) -> None:
    with pytest.raises(OptionError, match=r"expected \{name\}, \{ext\}, \{parent\}, \{index\}"):
        resolve_target(dest, "map.tif")


def test_the_parent_of_a_file_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "box 7").mkdir()
    monkeypatch.chdir(tmp_path / "box 7")
    assert resolve_target("{parent}.dzi", "map.tif").path == Path("box 7.dzi")


def test_tiff_by_its_layout_alone() -> None:
    target = resolve_target("site/", "map.png", "tiff")
    assert (target.path, target.container, target.name) == (Path("site/map.tif"), "tiff", "map")


def test_pages_are_numbered() -> None:
    assert resolve_target("out/x.dzi", "a.tif").with_page(2).path == Path("out/x-2.dzi")
    assert resolve_target("out/", "a.b.tif", "zoomify").with_page(3).path == Path("out/a.b-3")
    assert resolve_target("x.pmtiles", "a.tif").with_page(1).path == Path("x-1.pmtiles")


@pytest.mark.parametrize(
    ("dest", "layout", "message"),
    [
        ("x.dzi", "zoomify", ".dzi cannot hold zoomify; expected dzi"),
        ("x.szi", "xyz", ".szi cannot hold xyz; expected dzi"),
        ("x.pmtiles", "tms", ".pmtiles cannot hold tms; expected xyz"),
        ("x.tif", "dzi", ".tif cannot hold dzi; expected tiff"),
        ("x.zip", "tiff", ".zip cannot hold tiff; expected dzi, "),
        ("x.jpg", "xyz", "unknown extension '.jpg'; expected .dzi, "),
        ("x", "zoomfy", "layout 'zoomfy' is none of dzi, zoomify"),
        ("x", "zoomify:rounding=up", "rounding 'up' is neither floor nor ceil"),
        ("x", "zoomify:round=ceil", "zoomify has no parameter 'round'; it has rounding"),
        ("x", "tms:centre", "tms has no parameter 'centre'; it has none"),
        ("x", "xyz:template={z}/{x}", "needs {z}, {x} and {y}, or {quadkey}"),
        ("x", "xyz:template=../{z}/{x}/{y}", "is no path below"),
        ("x", "xyz:template=/{z}/{x}/{y}", "is no path below"),
        ("x", "xyz:template={z}/{x}/{yy}", "{yy} is none of"),
        ("x", "xyz:template={z}{x}{y}", "needs more than digits between"),
        ("x", "xyz:template={z}/{x}/{y}}", "without its other half"),
        ("x", "iiif3", "iiif3:id=https://example.org/{name}, not ''"),
        ("x", "iiif2:id=ftp://host/x", "iiif2 needs the address"),
    ],
)
def test_refuses_in_one_line(dest: str, layout: str, message: str) -> None:
    from fasttile.jobs.plan import Plan
    from fasttile.options.cut import CutOptions

    with pytest.raises(OptionError) as caught:
        Plan.from_options(CutOptions(layout=layout), dest, "map.tif")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "dest", "message"),
    [
        ({"layout": "zoomify", "overlap": 1}, "x", "Zoomify tiles do not overlap"),
        ({"layout": "xyz", "tile_size": 255}, "x", "tile size 255 is odd"),
        ({"layout": "xyz", "overlap": 2}, "x", "overlap"),
        ({"tile_size": 513}, "x.tif", "tile size 513: TIFF's tiles have sides of a multiple of 16"),
        (
            {"format": "png"},
            "x.tif",
            "a pyramidal TIFF holds no png tiles; expected jpeg or deflate",
        ),
        ({"format": "jpeg:progressive"}, "x.tif", "tiles of a TIFF cannot be progressive"),
        ({"format": "deflate"}, "x.dzi", "a folder holds no deflate tiles; expected jpeg or png"),
        ({"skip_blank": 5}, "x.dzi", "Deep Zoom needs all its tiles"),
        ({"skip_blank": 256}, "x.pmtiles", "skip_blank 256 is not between 0 and 255"),
        ({"levels": "3-1"}, "x.dzi", "levels '3-1' is neither A-B"),
        ({"layout": "zoomify", "levels": "one-pixel"}, "x", "Zoomify has no levels that are"),
        ({"layout": "dzi:jsonp"}, "my map.dzi", "'my map' cannot be the name of a function"),
    ],
)
def test_refuses_options_that_do_not_go_together(
    options: dict[str, object], dest: str, message: str
) -> None:
    import numpy as np

    import fasttile

    with pytest.raises(OptionError) as caught:
        fasttile.cut(np.zeros((300, 300, 3), np.uint8), dest, **options)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert not Path(dest).exists()
