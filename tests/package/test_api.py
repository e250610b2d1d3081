"""What the package shows to the world: its names, their types, their examples, and no weight."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import subprocess
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fasttile
from fasttile.encode import codecs as codec
from fasttile.errors import FasttileError
from fasttile.options.cut import CutKeywords, CutOptions

PACKAGE = Path(fasttile.__file__).parent


def run_in_new_process(program: str) -> str:
    """What a program prints in a process of its own."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_import_costs_nothing() -> None:
    found = run_in_new_process("import sys, fasttile; print(*sorted(sys.modules))").split()
    assert "fasttile" in found
    assert not {"numpy", "PIL", "tifffile", "tqdm"} & set(found)
    assert [name for name in found if name.startswith("fasttile.")] == ["fasttile._version"]


def test_options_and_errors_cost_neither_numpy_nor_pillow() -> None:
    program = "import sys, fasttile; fasttile.CutOptions(), fasttile.Pyramid.from_size(9, 9)\n"
    found = run_in_new_process(program + "print(*sys.modules)").split()
    assert not {"numpy", "PIL"} & set(found)


def test_every_name_can_be_had() -> None:
    names = fasttile.__all__
    assert names == sorted(names)
    assert set(dir(fasttile)) == set(names)
    for name in names:
        assert getattr(fasttile, name) is not None
    with pytest.raises(AttributeError, match="module 'fasttile' has no attribute 'cutt'"):
        fasttile.cutt  # noqa: B018


def test_type_checkers_see_the_same_names() -> None:
    # They read the imports under TYPE_CHECKING; __getattr__ reads a table. Both say the same.
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    told = {(home, name) for home, names in fasttile._EXPORTS.items() for name in names}
    assert {name for _, name in seen} == set(fasttile.__all__) - {"__version__"}
    assert {name for _, name in told} == {name for _, name in seen}
    for home, name in seen:
        assert getattr(import_module(f"fasttile.{home}"), name) is getattr(fasttile, name)
    assert (PACKAGE / "py.typed").exists()


def test_every_public_name_is_documented() -> None:
    for name in set(fasttile.__all__) - {"__version__"}:
        text = getattr(fasttile, name).__doc__
        assert text, name
        assert not text.startswith(f"{name}("), f"{name} has only what dataclasses write"


def test_option_words_are_the_options() -> None:
    fields = {field.name: field.type for field in dataclasses.fields(CutOptions)}
    words = {
        name: getattr(kind, "__forward_arg__", kind)
        for name, kind in CutKeywords.__annotations__.items()
    }
    assert list(words.items()) == list(fields.items())
    assert not CutKeywords.__required_keys__
    assert CutOptions.__doc__ is not None
    for name in fields:
        assert f"\n        {name}: " in CutOptions.__doc__, f"{name} is not explained"


def test_errors_have_one_root() -> None:
    for name in ("OptionError", "SourceError", "TargetError", "CancelledError"):
        assert issubclass(getattr(fasttile, name), FasttileError)
    assert issubclass(fasttile.OptionError, ValueError)


def test_the_version_is_the_distributions() -> None:
    try:
        assert fasttile.__version__ == version("fasttile")
    except PackageNotFoundError:
        pytest.skip("the package is not installed, only on the path")


def python_modules() -> list[str]:
    paths = sorted(path for path in PACKAGE.rglob("*.py") if path.stat().st_size)
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in paths]
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


def test_examples_in_the_documentation_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    known: dict[str, Any] = {"np": np, "fasttile": fasttile, **vars(codec)}
    tried = 0
    for name in python_modules():
        module = import_module(name)
        results = doctest.testmod(module, extraglobs=known | vars(module), report=True)
        assert results.failed == 0, name
        tried += results.attempted
    assert tried > 10
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", python_modules())
def test_every_module_says_what_it_is_for(name: str) -> None:
    text = import_module(name).__doc__
    assert text
    assert len(text.splitlines()[0]) <= 100
