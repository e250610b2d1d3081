"""A real kernel: tiles by messages, errors in one line, and cells that run meanwhile."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fasttile
from support.viewer_browser import skip_or_fail

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "pyramids.ipynb"

TIMEOUT_SECONDS = 60

SLOW_IMAGE = """
import threading
import numpy
import fasttile

class SlowImage:
    # An image whose pixels can be read while a gate is open.
    shape, dtype = (500, 300, 3), numpy.dtype("u1")
    gate = threading.Event()
    waits = threading.Event()

    def __getitem__(self, place):
        self.waits.set()
        self.gate.wait()
        return numpy.zeros(self.shape, self.dtype)[place]

image = SlowImage()
image.gate.set()
"""


class Kernel:
    """A kernel of IPython, without a notebook.

    Attributes:
        client: The client of Jupyter's.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self._waiting: list[Any] = []

    def run(self, code: str) -> list[dict[str, Any]]:
        """Run a cell; returns the content of all messages until its end."""
        found = []
        request = self.client.execute(code)
        while True:
            message = self.client.get_iopub_msg(timeout=TIMEOUT_SECONDS)
            content = {"kind": message["msg_type"], **message["content"]}
            if message["parent_header"].get("msg_id") != request:
                self._waiting.append(message)
                continue
            assert content["kind"] != "error", content["traceback"]
            found.append(content)
            if content.get("execution_state") == "idle":
                return found

    def show(self, name: str) -> tuple[dict[str, str], dict[str, Any], str]:
        """Show a variable; returns the output, and the state and number of its widget."""
        found = self.run(f"display({name})")
        opened = [one for one in found if one["kind"] == "comm_open"]
        (shown,) = (one["data"] for one in found if one["kind"] == "display_data")
        if not opened:
            return shown, {}, ""
        model = shown["application/vnd.jupyter.widget-view+json"]["model_id"]
        (comm,) = (one for one in opened if one["comm_id"] == model)
        return shown, comm["data"]["state"], model

    def ask(self, model: str, tile: object) -> None:
        """Ask a widget for a tile."""
        data = {"method": "custom", "content": {"tile": tile}}
        message = self.client.session.msg("comm_msg", {"comm_id": model, "data": data})
        self.client.shell_channel.send(message)

    def answer(self) -> tuple[dict[str, Any], list[bytes]]:
        """The next message of a widget, and its binary parts."""
        while True:
            waiting = self._waiting
            message = (
                waiting.pop(0) if waiting else self.client.get_iopub_msg(timeout=TIMEOUT_SECONDS)
            )
            assert message["msg_type"] not in ("error", "stream"), message["content"]
            if message["msg_type"] == "comm_msg":
                content: dict[str, Any] = message["content"]["data"]["content"]
                return content, [bytes(part) for part in message["buffers"]]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel for all tests."""
    for name in ("anywidget", "ipykernel", "jupyter_client"):
        if find_spec(name) is None:
            skip_or_fail(f"the Python package {name} is not installed")
    from jupyter_client.manager import KernelManager

    folder = tmp_path_factory.mktemp("kernel")
    environment = {**os.environ, "IPYTHONDIR": str(folder), "JUPYTER_RUNTIME_DIR": str(folder)}
    manager = KernelManager(kernel_name="python3", connection_file=str(folder / "kernel.json"))
    manager.start_kernel(env=environment, cwd=str(folder))
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=TIMEOUT_SECONDS)
        yield Kernel(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def test_tiles_travel_as_messages(kernel: Kernel, tmp_path: Path) -> None:
    pixels = np.zeros((300, 500, 3), np.uint8)
    pixels[:, :250] = np.arange(250)[None, :, None]
    options: Any = {"layout": "xyz", "tile_size": 128, "format": "png", "skip_blank": 0}
    np.save(tmp_path / "map.npy", pixels)
    path = fasttile.cut(pixels, tmp_path / "map.pmtiles", background="black", **options).path
    kernel.run(
        f"import fasttile; result = fasttile.open_pyramid({str(path)!r})\n"
        f"image = fasttile.open_pyramid({str(tmp_path / 'map.npy')!r}, overlap=3, levels='5-9')"
    )
    for name in ("result", "image"):
        shown, state, model = kernel.show(name)
        assert "<img " in shown["text/html"]
        source = path if name == "result" else tmp_path / "map.npy"
        given = {} if name == "result" else {"overlap": 3, "levels": "5-9"}
        with fasttile.open_pyramid(source, **given) as pyramid:
            assert shown["text/html"] == pyramid._repr_html_()
            assert (state["title"], state["size"]) == ("map", "500 × 300 pixels")
            assert state["first_level"] == pyramid.pyramid.stored_range[0]
            assert len(state["geometry"]["levels"]) == len(pyramid.pyramid.stored_range)
            for tile in pyramid.pyramid.tiles():
                kernel.ask(model, list(tile))
                content, buffers = kernel.answer()
                data = pyramid.tile(*tile)
                kind = {"blank": True} if data is None else {"type": pyramid.media_type}
                assert content == {"tile": list(tile), **kind}
                assert buffers == ([] if data is None else [data])
            if name == "result":
                assert pyramid.tile(9, 3, 0) is None


@pytest.mark.parametrize(
    ("tile", "said"),
    [
        ([9, 3, 0], "IndexError: level 9 has 2×1 tiles, none at (3, 0)"),
        ([9, -1, 0], "IndexError: level 9 has 2×1 tiles, none at (-1, 0)"),
        ([9, 0], "ValueError: not enough values to unpack (expected 3, got 2)"),
        (None, "TypeError: 'NoneType' object is not iterable"),
    ],
)
def test_a_wrong_request_is_answered_by_one_line(kernel: Kernel, tile: object, said: str) -> None:
    kernel.run(
        "import fasttile, numpy\nsmall = fasttile.open_pyramid(numpy.zeros((200, 300), 'u1'))"
    )
    kernel.ask(kernel.show("small")[2], tile)
    assert kernel.answer() == ({"tile": tile, "error": said}, [])


def test_a_closed_pyramid_is_one_line(kernel: Kernel) -> None:
    kernel.run("import fasttile, numpy; gone = fasttile.open_pyramid(numpy.zeros((9, 9), 'u1'))")
    _, _, model = kernel.show("gone")
    kernel.run("gone.close()")
    kernel.ask(model, [4, 0, 0])
    line = "image: the pyramid is closed; open it again"
    assert kernel.answer() == ({"tile": [4, 0, 0], "error": line}, [])
    shown, state, _ = kernel.show("gone")
    assert (shown["text/html"], state) == (f"<p>{line}</p>", {})


def test_cells_run_while_tiles_are_made(kernel: Kernel) -> None:
    kernel.run(SLOW_IMAGE + "pyramid = fasttile.open_pyramid(image, cache_bytes=0)")
    _, _, model = kernel.show("pyramid")
    kernel.run("image.gate.clear(); image.waits.clear()")
    kernel.ask(model, [9, 0, 0])
    kernel.run("image.waits.wait()")  # the tile is being made
    (printed,) = (one for one in kernel.run("print(6 * 7)") if one["kind"] == "stream")
    assert printed["text"] == "42\n"
    kernel.run("image.gate.set()")
    content, buffers = kernel.answer()
    assert (content, len(buffers)) == ({"tile": [9, 0, 0], "type": "image/jpeg"}, 1)


def test_the_example_runs(kernel: Kernel) -> None:
    cells = json.loads(EXAMPLE.read_text("utf-8"))["cells"]
    codes = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    found = [content for code in codes for content in kernel.run(code)]
    shown = [content["data"] for content in found if content["kind"] == "execute_result"]
    assert len(shown) == 2
    for data in shown:
        assert "application/vnd.jupyter.widget-view+json" in data
        assert "1,000 × 750 pixels" in data["text/html"]


def test_a_cut_shows_its_progress(kernel: Kernel, tmp_path: Path) -> None:
    np.save(tmp_path / "map.npy", np.zeros((600, 600), np.uint8))
    arguments = f"{str(tmp_path / 'map.npy')!r}, {str(tmp_path / 'a.dzi')!r}"
    found = kernel.run(f"import fasttile; r = fasttile.cut({arguments}, progress=True)")
    texts = [json.dumps(one, ensure_ascii=False, default=str) for one in found]
    # A widget of ipywidgets says it by HTML, else a text is on standard error.
    assert any("22.0/22.0" in text for text in texts), texts
    assert not any("Warning" in text for text in texts)
