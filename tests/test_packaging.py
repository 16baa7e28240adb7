"""What the package declares is what it imports; the lowest versions are those that are tested."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(lines: list[str]) -> dict[str, Requirement]:
    parsed = [Requirement(line) for line in lines]
    return {canonical(requirement.name): requirement for requirement in parsed}


REQUIRED = requirements(PROJECT["dependencies"])
EXTRA = requirements(
    [line for group in PROJECT["optional-dependencies"].values() for line in group]
)


def imported() -> set[str]:
    """Distributions whose modules the package imports, in whatever function."""
    modules: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.partition(".")[0])
    modules -= {"eegdm", *sys.stdlib_module_names}
    found = packages_distributions()
    return {canonical(found.get(module, [module])[0]) for module in modules}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    assert imported() - REQUIRED.keys() - EXTRA.keys() == set()
    assert REQUIRED.keys() - imported() == set()


def test_the_lowest_versions_are_the_lower_bounds() -> None:
    lines = (ROOT / "requirements-lowest.txt").read_text().splitlines()
    lowest = requirements([line for line in lines if line and not line.startswith("#")])
    assert lowest.keys() == REQUIRED.keys()
    for name, pinned in lowest.items():
        (version,) = [s.version for s in pinned.specifier if s.operator == "=="]
        (bound,) = [s.version for s in REQUIRED[name].specifier if s.operator == ">="]
        digits = [int(part) for part in bound.split(".")]
        assert [int(part) for part in version.split(".")][: len(digits)] == digits, name
        assert set(version.split(".")[len(digits) :]) <= {"0"}, name


def test_the_wheel_holds_every_file_of_the_package() -> None:
    """Templates, settings and weights lie beside the modules and are read from there."""
    packed = {Path(f.path) for f in WheelBuilder(str(ROOT)).recurse_included_files()}
    files = {path for path in (ROOT / "src" / "eegdm").rglob("*") if path.is_file()}
    assert {path for path in files if path.suffix != ".pyc"} == packed
    assert ROOT / "src" / "eegdm" / "report" / "templates" / "section.html.j2" in packed


def test_continuous_integration_calls_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = set(re.findall(r"^make ([a-z-]+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE))
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    (matrix,) = re.findall(r"target: \[(.*)\]", workflow)
    # the versions that download 10 GB are run by the workflow and by hand
    assert called | {"test-versions"} == set(matrix.split(", ")) <= targets
    assert (ROOT / "src" / "eegdm" / "py.typed").is_file()
