"""Plug-ins: a package of strangers, installed; parts of the program; and parts that are wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fasttile
from fasttile import abc, plugins
from fasttile.errors import OptionError, PluginError, SourceError, TargetError, TargetExistsError
from fasttile.options.read import ReadOptions

PACKAGE = Path(__file__).parents[1] / "plugin_package"
SOURCES = Path(fasttile.__file__).parents[1]

PIXELS = np.random.default_rng(3).integers(0, 256, (300, 410), np.uint8)


def hex_text(pixels: Any) -> str:
    return "\n".join(" ".join(f"{value:02x}" for value in row) for row in pixels)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip has installed the package, with its entry points."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(PACKAGE, folder / "package")
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet", "--no-compile")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            *options,
            "--target",
            folder / "site",
            "./package",
        ],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=300,
    )
    return folder / "site"


RunCommands = Callable[[str], list[str]]

COMMANDS = """
import contextlib, io, json, sys
from fasttile.cli import main
answers = []
for arguments in json.load(sys.stdin):
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = main(arguments)
    answers.append((code, output.getvalue()))
print(json.dumps(answers))
"""


@pytest.fixture
def run_commands(installed: Path, tmp_path: Path) -> RunCommands:
    """Runs commands, a line each, in an environment that has the package; returns their output.

    A line that begins with "1 " fails with this exit code.
    """
    (tmp_path / "a.hex").write_text(hex_text(PIXELS))
    np.save(tmp_path / "a.npy", PIXELS)
    path = os.pathsep.join([str(installed), str(SOURCES)])

    def run(text: str) -> list[str]:
        lines = [line.split() for line in text.strip().splitlines()]
        codes = [1 if line[0] == "1" else 0 for line in lines]
        commands = [line[1:] if code else line for line, code in zip(lines, codes, strict=True)]
        done = subprocess.run(
            [sys.executable, "-c", COMMANDS],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            input=json.dumps(commands),
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        answers = json.loads(done.stdout)
        assert [code for code, _ in answers] == codes, answers
        return [output for _, output in answers]

    return run


@pytest.fixture
def site(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package is on the path of this process."""
    monkeypatch.syspath_prepend(str(installed))
    plugins._of_packages.cache_clear()
    yield
    plugins._of_packages.cache_clear()
    sys.modules.pop("fasttile_hex", None)


@pytest.mark.slow
def test_the_commands_use_the_parts_of_a_package(run_commands: RunCommands, tmp_path: Path) -> None:
    outputs = run_commands(
        """
        cut a.hex -o a.dzi --format png -q
        cut a.npy -o b.dzi --format png -q
        info a.hex
        cut a.hex -o flat --layout flat:separator=_ --format png
        info flat
        verify flat --source a.hex
        cut a.hex -o flat.zip --layout flat --format bmp:scale=0.5
        cut a.hex -o a.tiles --format png
        info a.tiles
        1 cut a.hex -o a.tiles --format png
        cut a.hex -o a.tiles --overwrite
        info --plugins
        info --plugins --json
        """
    )
    names = [path.relative_to(tmp_path / "b_files") for path in tmp_path.glob("b_files/*/*.png")]
    assert len(names) > 9
    for name in names:
        assert (tmp_path / "a_files" / name).read_bytes() == (
            tmp_path / "b_files" / name
        ).read_bytes()
    assert (tmp_path / "flat/9_1_1.png").exists()
    assert (tmp_path / "flat.zip").exists()
    for number, text in {
        2: "hexadecimal",
        4: "format:      Flat, png tiles",
        5: "complete",
        8: "tiles as text",
        9: "a.tiles exists; use --overwrite",
        11: "layout   flat         fasttile-hex 1.0",
    }.items():
        assert text in outputs[number]
    listed = json.loads(outputs[12])["plugins"]
    assert [(entry["kind"], entry["name"], entry["package"]) for entry in listed] == [
        ("source", "hex", "fasttile-hex 1.0"),
        ("layout", "flat", "fasttile-hex 1.0"),
        ("codec", "bmp", "fasttile-hex 1.0"),
        ("sink", "tiles", "fasttile-hex 1.0"),
    ]


@pytest.mark.slow
def test_results_of_a_package_are_converted_and_batches_take_its_images(
    run_commands: RunCommands, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("in/a.hex", "in/b.hex"):
        (tmp_path / name).write_text(hex_text(PIXELS))
    outputs = run_commands(
        """
        cut a.hex -o c.dzi --tile-size 256 --overlap 0 --levels one-tile --format png
        convert c.dzi c.tiles
        convert c.tiles d.dzi
        convert d.dzi e --layout flat
        verify c.tiles --deep
        cut e -o from_result.dzi
        cut in -o in/out --workers 2 --layout flat --format bmp
        cut in -o twice
        """
    )
    assert [(tmp_path / "e" / name).read_bytes() for name in ("9-0-0.png", "flat.txt")] == [
        (tmp_path / "c_files/9/0_0.png").read_bytes(),
        b"410\n300\n256\npng\n-",
    ]
    assert "complete" in outputs[4]
    assert "410×300" in outputs[5]
    assert (tmp_path / "in/out/b/9-1-1.bmp").exists()
    assert outputs[7].count("410×300 pixels") == 2, "the tiles of results are no images"


@pytest.mark.usefixtures("site")
def test_view_and_open_pyramid_show_the_parts_of_a_package(tmp_path: Path) -> None:
    from fasttile.serve.content import open_content

    (tmp_path / "a.hex").write_text(hex_text(PIXELS))
    fasttile.cut(tmp_path / "a.hex", tmp_path / "a.tiles", format="png")
    fasttile.cut(tmp_path / "a.hex", tmp_path / "flat", format="png", layout="flat")
    for name in ("a.hex", "a.tiles", "flat", "flat/flat.txt"):
        with open_content(tmp_path / name) as content:
            assert b"410" in content.page
            assert content.tile(9, 0, 0) is not None
    with fasttile.open_pyramid(tmp_path / "flat") as result:
        np.testing.assert_array_equal(result.pixels(9, 0, 0)[..., 0], PIXELS[:256, :256])
    fasttile.cut(tmp_path / "flat", tmp_path / "again.dzi")  # a result is a source
    fasttile.cut(PIXELS, tmp_path / "bmp.dzi", format="bmp:scale=0.5", tile_size=512)
    with fasttile.open_pyramid(tmp_path / "bmp.dzi") as result:
        data = result.tile(9, 0, 0)
    assert data is not None
    assert data[:2] == b"BM"
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.long
def test_the_package_passes_a_strict_type_check(tmp_path: Path) -> None:
    package = PACKAGE / "src/fasttile_hex/__init__.py"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path, str(package)],
        env={**os.environ, "MYPYPATH": str(SOURCES)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_a_cut_of_built_in_parts_reads_no_entry_points(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PIXELS)
    program = (
        "import sys; from fasttile.cli import main; "
        f"assert main(['cut', '{tmp_path}/a.npy', '-o', '{tmp_path}/a.dzi', '-q']) == 0; "
        "assert not {'importlib.metadata', 'fasttile.plugins'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_interfaces_are_exported() -> None:
    for name in abc.__all__:
        assert getattr(abc, name).__name__ == name
        assert f"`{name}`" in (abc.__doc__ or "") or name not in (
            "Source",
            "Layout",
            "Codec",
            "Sink",
        )
    assert {name for names in abc._EXPORTS.values() for name in names} == set(abc.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Sauce'"):
        abc.Sauce  # noqa: B018


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], Any]:
    """The parts of this program: none at first, and forgotten at the end."""
    parts: dict[tuple[str, str], Any] = {}
    monkeypatch.setattr(plugins, "_registered", parts)
    return parts


class ThingSource(abc.Source):
    """A source whose rows are made by a function."""

    name, width, height, bands, dtype = "thing", 30, 20, 1, np.dtype(np.uint8)
    metadata = abc.Metadata("thing")

    def __init__(self, **attributes: Any) -> None:
        self.make = attributes.pop("make", lambda rows: np.zeros((rows, 30, 1), np.uint8))
        for name, value in attributes.items():
            setattr(self, name, value)

    def rows(self, y0: int, y1: int) -> Any:
        return self.make(y1 - y0)


class Thing:
    """An object that only a plug-in opens."""


def test_a_program_adds_its_own_parts(tmp_path: Path, registry: Any) -> None:
    def open_thing(source: object, options: ReadOptions) -> abc.Source | None:
        return ThingSource() if isinstance(source, Thing) or source == "thing://one" else None

    fasttile.register_source("thing", open_thing)
    fasttile.register_source("thing", open_thing)  # twice is once
    for source in (Thing(), "thing://one"):
        assert fasttile.cut(source, tmp_path / "a.dzi", overwrite=True).tiles == 6
    with pytest.raises(SourceError, match=r"an object of type object is not an image"):
        fasttile.open_source(object())

    class Shout(abc.Codec):
        name, extension = "shout", "txt"

        def encode(self, pixels: Any, metadata: abc.TileMetadata) -> bytes:
            assert pixels.flags.c_contiguous
            return repr(pixels.shape).encode()

    fasttile.register_codec(Shout)
    tiles: list[bytes] = []
    image = np.zeros((20, 30, 4), np.uint8)
    fasttile.cut(image, store=lambda _, data: tiles.append(data), format=Shout(), levels="one-tile")
    assert tiles == [b"(20, 30, 3)"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: 7, "it returned int; expected a fasttile.Source"),
        (lambda: 1 / 0, "it cannot open the image: ZeroDivisionError: division by zero"),
        (lambda: ThingSource(width=0), "its source has 0×20 pixels of 1 bands; expected integers"),
        (lambda: ThingSource(bands=9), "its source has 30×20 pixels of 9 bands"),
        (lambda: ThingSource(dtype="u1"), "its source has the dtype 'u1'; expected a NumPy dtype"),
        (lambda: ThingSource(make=lambda rows: None), "rows 0 to 19 are NoneType; expected uint8"),
        (
            lambda: ThingSource(make=lambda rows: np.zeros((rows, 30))),
            "rows 0 to 19 are float64 of shape",
        ),
        (lambda: ThingSource(make=lambda rows: 1 / 0), "rows 0 to 19 cannot be read: ZeroDivision"),
    ],
)
def test_a_source_that_is_wrong_is_named(
    tmp_path: Path, registry: Any, make: Any, message: str
) -> None:
    fasttile.register_source("thing", lambda source, options: make())
    with pytest.raises(PluginError, match=f"source plug-in 'thing' of this program: {message}"):
        fasttile.cut("thing://a", tmp_path / "a.dzi")
    assert list(tmp_path.iterdir()) == []


class BadSink:
    """A sink that fails at one of its methods."""

    def __init__(self, fails: str) -> None:
        self.fails, self.calls = fails, [""]

    def call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fails:
            raise ValueError("a\nfault")

    def put(self, tile: fasttile.Tile, data: bytes) -> None:
        self.call("put")

    def finish(self) -> None:
        self.call("finish")

    def abort(self) -> None:
        self.call("abort")
        raise ValueError("not of interest")


@pytest.mark.parametrize(
    ("fails", "message"),
    [("put", "a tile cannot be written"), ("finish", "it cannot be published")],
)
def test_a_sink_that_fails_is_named(
    tmp_path: Path, registry: Any, fails: str, message: str
) -> None:
    sink = BadSink(fails)
    fasttile.register_sink("box", lambda path, layout, overwrite: sink)
    text = rf"a.box: {message} by the sink plug-in 'box' of this program: ValueError: a fault"
    with pytest.raises(TargetError, match=text):
        fasttile.cut(PIXELS, tmp_path / "a.box")
    assert sink.calls[-1] == "abort"
    (tmp_path / "a.box").touch()
    with pytest.raises(TargetExistsError, match=r"a\.box exists"):
        fasttile.cut(PIXELS, tmp_path / "a.box")


def test_other_parts_that_are_wrong_are_named(tmp_path: Path, registry: Any) -> None:
    fasttile.register_sink("box", lambda path, layout, overwrite: 7)
    with pytest.raises(PluginError, match="sink plug-in 'box' of this program: it returned int"):
        fasttile.cut(PIXELS, tmp_path / "a.box")

    class Broken(abc.Codec):
        name, extension = "broken", "x"
        answer: Any = "text"

        def encode(self, pixels: Any, metadata: abc.TileMetadata) -> bytes:
            answer: bytes = self.answer if self.answer else 1 / 0  # type: ignore[assignment]
            return answer

    fasttile.register_codec(Broken)
    with pytest.raises(PluginError, match="codec 'broken': a tile became str; expected bytes"):
        fasttile.cut(PIXELS, tmp_path / "a.dzi", format="broken")
    Broken.answer = None
    with pytest.raises(PluginError, match="codec 'broken': it cannot encode a tile: ZeroDiv"):
        fasttile.cut(PIXELS, tmp_path / "a.dzi", format="broken")
    with pytest.raises(OptionError, match=r"'brokn' is none of jpeg, .*broken; did you mean"):
        fasttile.cut(PIXELS, tmp_path / "a.dzi", format="brokn")
    assert list(tmp_path.iterdir()) == []


class Bent(abc.Layout):
    """A layout whose paths and descriptors are given by a function."""

    type_name, title = "bent", "Bent"
    answer: Any = staticmethod(lambda tile: ("x",))
    described: Any = staticmethod(dict)

    def paths(self, tile: fasttile.Tile) -> tuple[str, ...]:
        paths: tuple[str, ...] = self.answer(tile)
        return paths

    def _parse_tile_path(self, name: str) -> fasttile.Tile | None:
        return None

    def descriptors(self) -> dict[str, bytes]:
        files: dict[str, bytes] = self.described()
        return files


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda tile: (f"a/{tile.level}",), "'a/1?[0-9]' is not read as"),
        (lambda tile: ("a/x",), "two tiles have the path 'a/x'|'a/x' is not read as"),
        (lambda tile: ("a/../x",), "'a/../x' is no path of a tile; expected one below a/"),
        (lambda tile: ("/etc/x",), "'/etc/x' is no path of a tile"),
        (lambda tile: None, "None is no path of a tile"),
        (lambda tile: 1 / 0, "it cannot lay out the image: ZeroDivisionError: division by zero"),
    ],
)
def test_a_layout_that_is_wrong_is_named(
    tmp_path: Path, registry: Any, monkeypatch: pytest.MonkeyPatch, answer: Any, message: str
) -> None:
    fasttile.register_layout(Bent)
    monkeypatch.setattr(Bent, "answer", staticmethod(answer))
    with pytest.raises(PluginError, match=f"layout plug-in 'bent' of .*: ({message})"):
        fasttile.cut(PIXELS, tmp_path / "a", layout="bent")
    assert list(tmp_path.iterdir()) == []


def test_workers_are_not_started_for_parts_of_the_program(tmp_path: Path, registry: Any) -> None:
    def open_thing(source: object, options: ReadOptions) -> abc.Source:
        return ThingSource()

    fasttile.register_source("thing", open_thing)
    for number in range(3):
        (tmp_path / f"{number}.thing").write_bytes(bytes(2**23))
    files = sorted(tmp_path.glob("*.thing"))
    assert [result.error for result in fasttile.cut_all(files, tmp_path / "out")] == ["", "", ""]


class Named(abc.Codec):
    name, extension = "jpeg", "jpg"

    def encode(self, pixels: Any, metadata: abc.TileMetadata) -> bytes:
        return b"x"


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (lambda: fasttile.register_codec(Named), "codec 'jpeg': the name is fasttile's own"),
        (lambda: fasttile.register_codec(abc.Codec), "no codec; expected a class derived from"),
        (lambda: fasttile.register_layout(abc.Layout), "no layout; expected a dataclass derived"),
        (lambda: fasttile.register_sink("zip", print), "sink 'zip': the name is fasttile's own"),
        (lambda: fasttile.register_sink(".box", print), "sink '.box': no name; expected letters"),
        (lambda: fasttile.register_source("s3", print), "source 's3': the name is fasttile's own"),
        (
            lambda: fasttile.register_source("CZI", print),
            "expected a name of ASCII letters",
        ),
    ],
)
def test_names_and_classes_that_are_refused(registry: Any, add: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        add()
    fasttile.register_sink("box", print)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="sink 'box': it is registered already; choose another"):
        fasttile.register_sink("box", repr)  # type: ignore[arg-type]


def test_packages_that_clash_or_cannot_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("one", "two"):
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            "[fasttile.layouts]\nsame = missing_module:Layout\n"
            f"{package} = missing_module:Layout\nlist{package} = builtins:list\n"
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins._of_packages.cache_clear()
    try:
        for layout, message in {
            "same": "layout 'same': one 1.0 and two 1.0 add it; remove one of the packages",
            "one": "layout plug-in 'one' of one 1.0: it cannot be loaded: ModuleNotFoundError: No",
            "listtwo": "layout plug-in 'listtwo' of two 1.0: <class 'list'> is no layout; expected",
        }.items():
            with pytest.raises(PluginError, match=message):
                fasttile.cut(PIXELS, tmp_path / "a", layout=layout)
        from fasttile.cli import main

        assert main(["info", "--plugins"]) == 1
        assert (
            "layout   one          layout plug-in 'one' of one 1.0: it" in capsys.readouterr().out
        )
        assert main(["cut", "a.npy", "--layout", "same"]) == 1
        assert capsys.readouterr().err.count("\n") == 1
        with pytest.raises(SourceError, match=r"no result; expected a \.dzi"):
            fasttile.open_pyramid(tmp_path / "one-1.0.dist-info")
    finally:
        plugins._of_packages.cache_clear()
