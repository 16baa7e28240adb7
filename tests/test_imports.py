"""The package is built in one direction: nothing imports what lies above it, and there is no
circle.

The order is that of docs/architecture.md; imports inside functions and for type checking count.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from conftest import ROOT

SOURCE = ROOT / "src" / "eegdm"

# From the top down. What stands in one row may not import each other.
FLOORS = (
    ("__main__",),
    ("cli",),
    ("demo",),
    ("experiments",),
    ("stages",),
    ("features", "pretraining", "distillation"),
    ("inference", "training"),
    ("report",),
    ("evaluation",),
    ("sklearn", "braindecode", "synthetic", "opening"),
    ("checkpoints", "effects", "info", "privacy"),
    ("models",),
    ("data",),
    ("layout", "compose"),
    ("config", "artifacts", "executor"),
    ("console",),
    ("tuev",),
    ("processes",),
    ("errors",),
    ("eegdm",),  # __version__ and the public names
    ("_moved",),
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def unit(module: str) -> str:
    """The package or module below `eegdm` that a module belongs to."""
    return module.split(".")[1] if "." in module else "eegdm"


def modules() -> dict[str, Path]:
    names = {}
    for path in SOURCE.rglob("*.py"):
        parts = ["eegdm", *path.relative_to(SOURCE).with_suffix("").parts]
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of eegdm that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "eegdm":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in known else str(node.module))
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("eegdm.")}
    return found


MODULES = modules()
ARROWS = {name: imports(path, MODULES) - {name} for name, path in MODULES.items()}


def test_every_module_has_its_floor() -> None:
    assert {unit(name) for name in MODULES} <= set(FLOOR)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_down(module: str) -> None:
    upward = {
        target
        for target in ARROWS[module]
        if unit(target) != unit(module) and FLOOR[unit(target)] <= FLOOR[unit(module)]
    }
    assert not upward


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Within a package too."""
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way[way.index(module) :], module))
        if module in done:
            return
        for target in ARROWS[module]:
            visit(target, (*way, module))
        done.add(module)

    for module in MODULES:
        visit(module, ())


def test_stages_do_not_import_each_other() -> None:
    for module in MODULES:
        if module.startswith("eegdm.stages."):
            assert not {t for t in ARROWS[module] if t.startswith("eegdm.stages")}, module
