"""Imports of the package: in one direction, without a cycle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fasttile

PACKAGE = Path(fasttile.__file__).parent

LAYERS = [
    "_version",
    "errors",
    "types",
    "plugins",
    "_resample",
    "_resample_avx2",
    "_resample_neon",
    "_pages",
    "_files",
    "_colour",
    "_runs",
    "versions",
    "pillow_core",
    "kernels",
    "scaling",
    "geometry",
    "storage",
    "formats",
    "options",
    "notebook",
    "abc",
    "sources",
    "walk",
    "colour",
    "layouts",
    "workers",
    "encode",
    "readers",
    "viewers",
    "sinks",
    "jobs",
    "ondemand",
    "dry_run",
    "batch",
    "collection",
    "verify",
    "serve",
    "cli",
    "__main__",
]
"""The modules and packages of fasttile. Each may import only from those before it."""


def module_paths() -> dict[str, Path]:
    """Each module's name below `fasttile`, and its file. A package is its __init__.py."""
    paths = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


MODULES = module_paths()


def imported_modules(module: str, tree: ast.AST) -> Iterator[str]:
    """The modules of fasttile that a module imports anywhere, inside functions too."""
    is_package = MODULES[module].name == "__init__.py"
    package = module.split(".")[: None if is_package else -1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            yield from (name.partition(".")[2] for name in names if name.startswith("fasttile."))
        elif isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".") if node.module else []
            if node.level:
                base = ["fasttile", *package[: len(package) - node.level + 1], *base]
            if base[:1] != ["fasttile"]:
                continue
            for alias in node.names:
                name = ".".join([*base[1:], alias.name])
                is_module = name in MODULES or name in LAYERS
                yield name if is_module else ".".join(base[1:])


IMPORTS = {
    module: set(imported_modules(module, ast.parse(path.read_text())))
    for module, path in MODULES.items()
}


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {""}))
def test_imports_point_downwards(module: str) -> None:
    layer = LAYERS.index(module.partition(".")[0])
    for imported in IMPORTS[module]:
        assert imported, f"{module} imports from fasttile itself"
        other = LAYERS.index(imported.partition(".")[0])
        assert other <= layer, f"{module} imports {imported}, which is above it"


def test_no_cycles() -> None:
    """Remove modules whose imports are all removed, until none is left."""
    left = {
        module: (imports & MODULES.keys()) - {module, ""}
        for module, imports in IMPORTS.items()
        if module
    }
    while free := {module for module, imports in left.items() if not imports & left.keys()}:
        for module in free:
            del left[module]
    assert not left, f"a cycle among {', '.join(sorted(left))}"


def test_test_modules_have_names_of_their_own() -> None:
    """Pytest cannot collect two modules of one name in folders that are no packages."""
    names = [path.name for path in Path(__file__).parents[1].rglob("test_*.py")]
    assert len(names) > 100
    assert [name for name in sorted(set(names)) if names.count(name) > 1] == []
