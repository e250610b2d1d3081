"""A pyramid as the output of a notebook's cell.

Where a kernel runs and anywidget is installed, the output is a widget: its script in the browser
asks for tiles by messages to the kernel, so there is no server and no port. Every output has a
thumbnail and the size as HTML besides, for places where no script runs.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

from fasttile.notebook.still import ShownPyramid, error_html, make_thumbnail, static_html


def cell_output(shown: ShownPyramid) -> tuple[dict[str, Any], dict[str, Any]]:
    """The output of a cell that shows a pyramid: data by media type, and their metadata.

    A terminal gets the text only. An error is one line of the output.
    """
    data: dict[str, Any] = {"text/plain": repr(shown)}
    shell = _running_shell()
    in_kernel = getattr(shell, "kernel", None) is not None
    if shell is not None and not in_kernel:
        return data, {}
    try:
        thumbnail = make_thumbnail(shown)
    except Exception as error:  # codecs and stores raise anything
        return {**data, "text/html": error_html(error)}, {}
    has_widgets = find_spec("anywidget") is not None
    hint = "to zoom here, install fasttile[notebook]" if in_kernel and not has_widgets else ""
    data["text/html"] = static_html(shown, thumbnail, hint)
    if not in_kernel or not has_widgets:
        return data, {}
    from fasttile.notebook.widget import PyramidWidget

    view, metadata = PyramidWidget(shown, thumbnail).view()
    return {**view, **data}, metadata


def static_output(shown: ShownPyramid) -> str:
    """A pyramid as HTML without scripts: a thumbnail, the name and the size, or an error's line."""
    try:
        return static_html(shown, make_thumbnail(shown))
    except Exception as error:  # codecs and stores raise anything
        return error_html(error)


def _running_shell() -> Any:
    """IPython's shell that runs here, or None."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()
