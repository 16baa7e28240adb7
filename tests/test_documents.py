"""What the documents name exists: files, Python names, settings."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from conftest import ROOT
from eegdm.config import Config

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_CODE = re.compile(r"^```.*?\n(.*?)^```|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
_FILE = re.compile(
    r"(?<![\w/.])((?:src|docs|tests|examples|benchmarks|data|models|evaluation)/[\w./-]+\.(?:py|sh|md|yaml))"
)
_NAME = re.compile(r"(?<![\w/])eegdm(?:\.(?!py\b)[A-Za-z_]\w*)+")
_SETTING = re.compile(r"(?<![\w./-])([a-z_]+\.[a-z_.]+)=")
ORIGINAL = ("finetune.rng_seeding.", "extra.", "report.")
"""How settings of the original's command line begin; main.py translates these."""


def code(page: Path) -> str:
    """The code of a page, in blocks and in lines."""
    return "\n".join(block or line for block, line in _CODE.findall(page.read_text("utf-8")))


def settings(part: object, before: str = "") -> Iterator[str]:
    for field in fields(part):  # type: ignore[arg-type]
        yield before + field.name
        if is_dataclass(value := getattr(part, field.name)):
            yield from settings(value, f"{before}{field.name}.")


def is_defined(name: str) -> bool:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    text = code(page)
    homes = (ROOT, ROOT / "src" / "eegdm", page.parent)
    files = [file for file in _FILE.findall(text) if not any((h / file).exists() for h in homes)]
    names = [name for name in _NAME.findall(text) if not is_defined(name)]
    known = set(settings(Config()))
    typed = [s for s in _SETTING.findall(text) if s not in known and not s.startswith(ORIGINAL)]
    assert (files, names, typed) == ([], [], [])


def test_the_check_finds_what_is_not_there(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("`src/no.py` `eegdm.nothing`\n\n```bash\neegdm cache latents.stp=1\n```\n")
    text = code(page)
    assert _FILE.findall(text) == ["src/no.py"] and not is_defined("eegdm.nothing")
    assert _SETTING.findall(text) == ["latents.stp"]
    assert is_defined("eegdm.evaluation.event_scores") and is_defined("eegdm.EEGDM.from_pretrained")
