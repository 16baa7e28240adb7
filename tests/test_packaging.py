"""What the package declares is what it imports; the lowest versions are those that are tested."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.version import Version

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


def pinned(file: str) -> dict[str, str]:
    """The version of each distribution in a file of requirements."""
    lines = [line for line in (ROOT / file).read_text().splitlines() if line[:1] not in ("", "#")]
    return {
        name: str(requirement.specifier).removeprefix("==")
        for name, requirement in requirements(lines).items()
    }


def test_the_lowest_versions_are_the_lower_bounds() -> None:
    extras = PROJECT["optional-dependencies"]
    core = REQUIRED | requirements(
        [line for name in ("dask", "slurm", "tensorboard", "wandb") for line in extras[name]]
    )
    wrapper = requirements(extras["braindecode"])
    lowest, with_braindecode = (
        pinned("requirements-lowest.txt"),
        pinned("requirements-lowest-braindecode.txt"),
    )
    # torch is the Makefile's, since a machine may have one build only
    assert lowest.keys() == core.keys() - {"torch"}
    assert wrapper.keys() <= with_braindecode.keys() <= wrapper.keys() | lowest.keys()
    (lowest_torch,) = re.findall(r"TORCH=([\d.]+)", (ROOT / "Makefile").read_text())
    tested = lowest | {"torch": lowest_torch} | {name: with_braindecode[name] for name in wrapper}
    for name, version in tested.items():
        (bound,) = [s.version for s in (core | wrapper)[name].specifier if s.operator == ">="]
        assert Version(version) == Version(bound), name


def test_the_wheel_holds_every_file_of_the_package() -> None:
    """Templates, settings and weights lie beside the modules and are read from there."""
    packed = {Path(f.path) for f in WheelBuilder(str(ROOT)).recurse_included_files()}
    files = {path for path in (ROOT / "src" / "eegdm").rglob("*") if path.is_file()}
    assert {path for path in files if path.suffix != ".pyc"} == packed
    assert ROOT / "src" / "eegdm" / "report" / "templates" / "section.html.j2" in packed


def test_a_release_can_be_built_again_to_the_same_bytes(tmp_path: Path) -> None:
    """From another folder at another time; and the wheel from the sdist is that of the checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for copy, day in (("one", 1), ("other", 2)):
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                path = tmp_path / copy / name
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, path)
                os.utime(path, (86400 * 365 * 40, 86400 * 365 * 40 * day))

    def built(builder: type, folder: Path) -> Path:
        (path,) = builder(str(folder)).build(directory=str(folder / "dist"))
        return Path(path)

    sdists = [built(SdistBuilder, tmp_path / copy) for copy in ("one", "other")]
    wheels = [built(WheelBuilder, tmp_path / copy) for copy in ("one", "other")]
    with tarfile.open(sdists[0]) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    wheels.append(built(WheelBuilder, unpacked))
    for several in (sdists, wheels):
        assert len({path.name for path in several}) == len({*map(Path.read_bytes, several)}) == 1


def test_what_continuous_integration_calls_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    called = re.findall(r"^make ([a-z-]+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    (matrix,) = re.findall(r"target: \[(.*)\]", workflow)
    assert called == matrix.split(", ")
    assert set(called) <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert (ROOT / "src" / "eegdm" / "py.typed").is_file()
