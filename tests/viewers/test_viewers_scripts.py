"""The scripts of pages: do they name tiles as the layouts do, and are viewers what they claim?"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fasttile.geometry import Tile, describe_geometry
from fasttile.layouts import LayoutSpec
from fasttile.serve.content import PLAIN_WALL_PARTS, WALL_PARTS
from fasttile.viewers import (
    VIEWERS,
    describe_tiles,
    known_scripts,
    read_part,
    sri_hash,
    to_url,
)
from support.viewer_browser import NODE_MODULES, ROOT, find_npm_file, skip_or_fail

VIEWER_TOOLS = ROOT / "tools" / "viewers"
PARTS = ROOT / "src" / "fasttile" / "viewers" / "parts"


def run_node(*arguments: str, stdin: str = "") -> str:
    """What Node.js prints."""
    program = shutil.which("node")
    if program is None:
        skip_or_fail("there is no node here")
    assert program is not None
    done = subprocess.run(
        [program, *arguments], input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_scripts(parts: list[str], code: str, arguments: Any) -> Any:
    """What a piece of code gives for `given`, beside our parts."""
    script = "".join(read_part(name) for name in parts) + (
        "\nconst given = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        f"\n(async () => {{ {code} }})().then((it) => console.log(JSON.stringify(it)));"
    )
    return json.loads(run_node("-e", script, stdin=json.dumps(arguments)))


def test_all_that_a_page_runs_is_sound(tmp_path: Path) -> None:
    pages = [viewer.parts for viewer in VIEWERS.values()]
    pages += [("plain.js", "plain_picture.js"), WALL_PARTS[2:], PLAIN_WALL_PARTS[2:]]
    for number, parts in enumerate(pages):
        names = list(dict.fromkeys(["tiles.js", "shell.js", "pmtiles.js", *parts]))
        text = "".join(read_part(name) for name in names if name.endswith(".js"))
        path = tmp_path / f"{number}.mjs"
        path.write_text(text, "utf-8")
        run_node("--check", str(path))


def _layouts() -> list[Any]:
    cases: list[tuple[str, dict[str, Any]]] = [
        ("dzi", {}),
        ("dzi", {"tile_size": 64, "overlap": 3, "levels": "3-8"}),
        ("zoomify", {"tile_size": 16}),
        ("zoomify:rounding=ceil", {"tile_size": 16}),
        ("zoomify:group=tile-size", {"tile_size": 16}),
        ("xyz", {"tile_size": 32, "levels": "1-3"}),
        ("xyz:centre,template=a{z}/{y}-{x} b%", {"tile_size": 16}),
        ("xyz:template={quadkey}x", {"tile_size": 16, "levels": "1-4"}),
        ("tms", {"tile_size": 16}),
        ("tilecache", {"tile_size": 16}),
        ("gsiv", {"tile_size": 16, "levels": "0-3"}),
        ("iiif2:id=https://example.org/{name}", {"tile_size": 32}),
        ("iiif3:id=https://example.org/{name}", {"tile_size": 32, "levels": "0-2"}),
    ]
    sizes = [(1, 1), (257, 129), (300, 513), (511, 7), (100, 100), (15, 17)]
    found = []
    for spelling, more in cases:
        for width, height in sizes:
            options = dict(more)
            if max(width, height) < 257:
                options.pop("levels", None)
            choice = LayoutSpec.parse(spelling)
            found.append(choice.bind("a map", width, height, "jpg", **options))
    return found


def test_pages_ask_for_the_paths_that_layouts_name() -> None:
    layouts = _layouts()
    given = [
        {**describe_geometry(found.pyramid), "tiles": describe_tiles(found)} for found in layouts
    ]
    code = """
      return given.map((image) => {
        const tiles = new Tiles(image);
        const found = [];
        tiles.levels.forEach((level, index) => {
          for (let row = level.firstRow - 1; row <= level.firstRow + level.rows; row += 1)
            for (let col = level.firstCol - 1; col <= level.firstCol + level.cols; col += 1)
              if (tiles.has(index, col, row))
                found.push([tiles.url(index, col, row), tiles.region(index, col, row)]);
        });
        return found;
      });
    """
    for layout, found in zip(layouts, run_scripts(["tiles.js"], code, given), strict=True):
        wanted = []
        for tile in layout.pyramid.tiles():
            level = layout.pyramid.levels[tile.level]
            x, y, width, height = level.region(tile.col, tile.row)
            size = layout.pyramid.tile_size
            place = [x + level.first_col * size, y + level.first_row * size, width, height]
            wanted.append([to_url(layout.path(Tile(*tile))), place])
        assert found == wanted, layout


def test_pages_ask_for_tiles_of_the_screen() -> None:
    layouts = [
        LayoutSpec.parse(spelling).bind("a map", width, height, "jpg", **options)
        for spelling, options in (
            ("xyz:scale=2", {"tile_size": 16}),
            ("xyz:scale=2,centre,template={z}-{y}_{x}", {"tile_size": 32, "levels": "1-2"}),
            ("xyz:scale=2,template={quadkey}x", {"tile_size": 16, "levels": "1-3"}),
        )
        for width, height in ((300, 513), (257, 129), (511, 70))
    ]
    given = [
        {**describe_geometry(found.pyramid), "tiles": describe_tiles(found)} for found in layouts
    ]
    code = """
      const found = [];
      for (const image of given) {
        for (const devicePixelRatio of [1, 2]) {
          globalThis.window = { devicePixelRatio };
          const tiles = await tilesOf(forScreen(image));
          const names = [];
          tiles.levels.forEach((level, index) => {
            for (let row = level.firstRow; row < level.firstRow + level.rows; row += 1)
              for (let col = level.firstCol; col < level.firstCol + level.cols; col += 1)
                names.push([tiles.url(index, col, row), tiles.region(index, col, row)]);
          });
          found.push(names);
        }
      }
      return found;
    """
    found = iter(run_scripts(["tiles.js"], code, given))
    for layout in layouts:
        side = layout.pyramid.tile_size // 2
        usual, quarters, dense = [], [], []
        for tile in layout.pyramid.tiles():
            level = layout.pyramid.levels[tile.level]
            col, row = level.first_col + tile.col, level.first_row + tile.row
            path = to_url(layout.path(Tile(*tile)))
            usual.append(
                [to_url(layout.half_path(Tile(*tile))), [col * side, row * side] + [side] * 2]
            )
            dense.append([path, [2 * col * side, 2 * row * side] + [2 * side] * 2])
            if tile.level == layout.pyramid.stored_range[-1]:
                quarters += [
                    [f"{path}#{x},{y}", [x * side, y * side, side, side]]
                    for y in (2 * row, 2 * row + 1)
                    for x in (2 * col, 2 * col + 1)
                ]
        names = next(found)
        assert names[: len(usual)] == usual
        assert sorted(names[len(usual) :]) == sorted(quarters)
        assert next(found) == dense


def test_pmtiles_numbers() -> None:
    given = [[0, 0, 0], [1, 0, 0], [1, 0, 1], [1, 1, 1], [1, 1, 0], [12, 3423, 1763]]
    given += [[26, 0, 2**26 - 1], [26, 2**26 - 1, 0]]
    found = run_scripts(
        ["tiles.js", "pmtiles.js"], "return given.map((tile) => tileId(...tile));", given
    )
    assert found[:6] == [0, 1, 2, 3, 4, 19078479]
    below = (4**26 - 1) // 3  # the tiles of all smaller zooms
    assert below <= found[6] < below + 4**26
    assert found[7] == below + 4**26 - 1  # the curve ends at the top right


def _varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])


def _directory(entries: list[tuple[int, int, int, int]]) -> bytes:
    """Entries of (tile, run, length, offset), packed; an offset that follows on is 0."""
    columns = [len(entries)]
    columns += [entry[0] - before for entry, before in _entries_with_previous(entries)]
    columns += [entry[1] for entry in entries] + [entry[2] for entry in entries]
    end = -1
    for _, _, length, offset in entries:
        columns.append(0 if offset == end else offset + 1)
        end = offset + length
    return gzip.compress(b"".join(_varint(column) for column in columns))


def _entries_with_previous(entries: list[tuple[int, int, int, int]]) -> list[tuple[Any, int]]:
    return list(zip(entries, [0, *(entry[0] for entry in entries)], strict=False))


def test_pmtiles_directories_lead_to_tiles() -> None:
    """A root with a tile, a run, and a leaf that has another leaf; holes between them."""
    inner = _directory([(5000, 1, 3, 6)])
    leaf = _directory([(300, 1, 3, 2**33), (4000, 0, len(inner), 0)])
    leaves = inner + leaf
    root = _directory([(0, 1, 2, 0), (2, 3, 4, 2), (300, 0, len(leaf), len(inner))])
    header = b"PMTiles\3" + struct.pack("<QQQQQQ", 127, len(root), 0, 0, 127 + len(root), 0)
    header += struct.pack("<QQQQQ", 2**35, 0, 0, 0, 0) + bytes([1, 2, 1, 3])
    data = header.ljust(127, b"\0") + root + leaves
    code = """
      const bytes = Uint8Array.from(given.data);
      const read = async (offset, length) =>
        offset < bytes.length ? bytes.slice(offset, offset + length).buffer : [offset, length];
      const archive = await new Archive(read).open();
      return Promise.all(given.tiles.map((tile) => archive.tile(...tile)));
    """
    by_id = {0: (0, 0, 0), 1: (1, 0, 0), 2: (1, 0, 1), 4: (1, 1, 0), 5: (2, 0, 0)}
    place = "const ids = new Map(); for (let z = 0; z < 7; z += 1) for (let x = 0; x < 2 ** z; "
    place += "x += 1) for (let y = 0; y < 2 ** z; y += 1) ids.set(tileId(z, x, y), [z, x, y]);"
    place += "return given.map((id) => ids.get(id));"
    further = run_scripts(["tiles.js", "pmtiles.js"], place, [300, 301, 5000, 4999])
    found = run_scripts(
        ["tiles.js", "pmtiles.js"], code, {"data": list(data), "tiles": [*by_id.values(), *further]}
    )
    at = 2**35
    wanted = [[at, 2], None, [at + 2, 4], [at + 2, 4], None]
    assert found == [*wanted, [at + 2**33, 3], None, [at + 6, 3], None]


def test_morton_numbers() -> None:
    code = read_part("thumbnails.js") + "\nconsole.log(JSON.stringify(GIVEN.map(morton)));"
    given = [0, 1, 2, 3, 4, 63, 2863311530]
    found = json.loads(run_node("-e", code.replace("GIVEN", json.dumps(given))))
    assert found == [[0, 0], [1, 0], [0, 1], [1, 1], [2, 0], [7, 7], [0, 65535]]


def test_versions_are_those_of_the_lock_file() -> None:
    wanted = json.loads((VIEWER_TOOLS / "package.json").read_text())["dependencies"]
    locked = json.loads((VIEWER_TOOLS / "package-lock.json").read_text())["packages"]
    assert {script.package: script.version for script in known_scripts().values()} == wanted
    for package, version in wanted.items():
        assert locked[f"node_modules/{package}"]["version"] == version
    text = (VIEWER_TOOLS / "package-lock.json").read_text()
    assert '"resolved"' not in text


def test_hashes_are_those_of_the_packages_files() -> None:
    seen = 0
    for modules in NODE_MODULES:
        for script in known_scripts().values():
            said = modules / script.package / "package.json"
            if said.is_file() and json.loads(said.read_text())["version"] == script.version:
                path = modules / script.package / script.path
                assert sri_hash(path.read_bytes()) == script.integrity
                seen += 1
    if not seen:
        skip_or_fail("npm has installed no viewers here")


def _fetcher_folder(folder: Path) -> Path:
    """What a build has to get the viewers' scripts; returns the program that gets them."""
    (folder / "tools" / "viewers").mkdir(parents=True)
    (folder / "src/fasttile/viewers").mkdir(parents=True)
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy2(VIEWER_TOOLS / name, folder / "tools/viewers")
    shutil.copy(PARTS.parent / "scripts.json", folder / "src/fasttile/viewers")
    return Path(shutil.copy(ROOT / "tools" / "fetch_viewers.py", folder / "tools"))


def _fetch(program: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(program), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_without_npm_a_build_goes_on(tmp_path: Path) -> None:
    program = _fetcher_folder(tmp_path)
    for words, code in (([], 0), (["--required"], 1)):
        done = _fetch(program, *words, PATH="")
        assert done.returncode == code
        assert done.stderr.startswith(
            "fetch_viewers: the viewers' scripts are left out: there is no npm here; pages"
        )
        assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_without_a_network_a_build_goes_on(tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        skip_or_fail("there is no npm here")
    registry = {"npm_config_registry": "http://127.0.0.1:9", "npm_config_cache": str(tmp_path)}
    done = _fetch(_fetcher_folder(tmp_path), PATH=os.environ["PATH"], **registry)
    assert done.returncode == 0
    assert "scripts are left out: npm ci failed: npm error code ECONNREFUSED; pages" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="a script of the shell")
def test_npm_that_does_not_end_is_stopped(tmp_path: Path) -> None:
    program = _fetcher_folder(tmp_path)
    program.write_text(program.read_text().replace("\nSECONDS = 120", "\nSECONDS = 1"))
    npm = tmp_path / "npm"
    npm.write_text(f"#!/bin/sh\nsleep 1000 &\necho $! > {tmp_path}/child\nwait\n")
    npm.chmod(0o755)
    done = _fetch(program, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 0
    assert "are left out: npm ci takes more than 1 seconds; pages will" in done.stderr
    child = int((tmp_path / "child").read_text())
    # It has ended, or waits for another process to reap it.
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_scripts_that_are_there_are_not_fetched(tmp_path: Path) -> None:
    for script in known_scripts().values():
        if find_npm_file(script) is None:
            skip_or_fail("npm has installed no viewers here")
    program = _fetcher_folder(tmp_path)
    modules = next(found for found in NODE_MODULES if (found / "ol").is_dir())
    (tmp_path / "tools/viewers/node_modules").symlink_to(modules)
    assert _fetch(program, "--required", PATH="").returncode == 0  # npm has been there
    (tmp_path / "tools/viewers/node_modules").unlink()
    assert _fetch(program, "--required", PATH="").returncode == 0
    bundle = tmp_path / "src/fasttile/viewers/scripts"
    assert {*known_scripts()} < {path.name for path in bundle.iterdir()}
    (bundle / "leaflet.js").write_text("another version")
    assert "no npm here" in _fetch(program, "--required", PATH="").stderr
