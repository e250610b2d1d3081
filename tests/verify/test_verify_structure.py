"""Boundaries of packages: private names stay in their module."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import fasttile

PACKAGES = (
    "abc",
    "batch",
    "cli",
    "collection",
    "formats",
    "geometry",
    "jobs",
    "layouts",
    "options",
    "readers",
    "serve",
    "sinks",
    "verify",
    "viewers",
)


PUBLIC_NAMES = ("_exit", "_make", "_replace")
"""The public os._exit, and methods of named tuples."""

ARGPARSE_NAMES = (
    "_SubParsersAction",
    "_action_groups",
    "_actions",
    "_choices_actions",
    "_group_actions",
)
"""The arguments of a parser, which argparse lists in no public way."""


def foreign_private_names(path: Path) -> list[str]:
    """Private attributes and imports in a module that belong to another module."""
    module = ast.parse(path.read_text("utf-8"))
    own = {
        node.name
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    own |= {node.attr for node in ast.walk(module) if _is_own_attribute(node)}
    own |= {
        node.id
        for node in ast.walk(module)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    names = []
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute):
            used = [node.attr]
        elif isinstance(node, ast.ImportFrom):
            used = [alias.name for alias in node.names]
        else:
            continue
        for name in used:
            if name in PUBLIC_NAMES or (path.name == "completion.py" and name in ARGPARSE_NAMES):
                continue
            if name.startswith("_") and not name.startswith("__") and name not in own:
                names.append(f"{path.name}:{node.lineno}: {name}")
    return names


def _is_own_attribute(node: ast.AST) -> bool:
    """True for an attribute of self or cls."""
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("self", "cls")
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_private_names_stay_in_their_module(package: str) -> None:
    folder = Path(fasttile.__file__).parent / package
    assert [name for path in folder.rglob("*.py") for name in foreign_private_names(path)] == []
