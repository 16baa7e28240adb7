"""The words that users read: messages of the package, its documents and the README. Each rule names
a habit that international readers stumble over, and what to write instead.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

RULES = {
    r"(?<!there )\b(is|are|was|were) no (?!longer\b|(more|less|faster) than\b)": (
        '"X is not a Y", never "is no Y"'
    ),
    r"\bgo(es|ing)? on\b": '"continues" or "resumes"',
    r"\b(told|tells?|telling)\b": '"printed", "reported", "says" or "shows"',
    r"\bso many\b": "the number's name: `n processes`, `the given number of`",
    r"\b(is|are|to be|can be) had\b": '"available", "obtained" or "possible"',
    r"\bmade[- ]up\b|\bmakes? up\b": '"synthetic"',
    r"\b(does|do|did|done) anew\b|\bbegins? anew\b": '"starts again from the beginning"',
    r"\bstands? on\b": '"depends on" or "is based on"',
    r"\bfor want of\b": '"because ... is missing"',
    r"\bSPEC \d": "the paper or docs/deviations.md; readers don't have that document",
}


class Passage:
    """A text that reaches a reader, and where it stands."""

    def __init__(self, path: Path, line: int, text: str) -> None:
        self.where = f"{path.relative_to(ROOT)}:{line}"
        self.text = " ".join(text.split())


def messages() -> Iterator[Passage]:
    """String literals of the package, without docstrings and without names of things."""
    for path in sorted((ROOT / "src" / "eegdm").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        hidden = set(docstrings(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "{}" for v in node.values]
                hidden |= set(map(id, node.values))
                yield Passage(path, node.lineno, "".join(map(str, parts)))
        for node in ast.walk(tree):
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
            if is_text and id(node) not in hidden and " " in node.value:
                yield Passage(path, node.lineno, node.value)


def docstrings(tree: ast.AST) -> Iterator[int]:
    """Texts that stand alone as statements: of modules, classes, functions and constants. Those of
    commands are shown by --help and are not hidden.
    """
    for node in ast.walk(tree):
        shown = isinstance(node, ast.FunctionDef) and any(
            "app.command" in ast.unparse(decorator) for decorator in node.decorator_list
        )
        if shown or not hasattr(node, "body") or not isinstance(node.body, list):
            continue
        for statement in node.body:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                yield id(statement.value)


def documents() -> Iterator[Passage]:
    """The paragraphs of every page, without code."""
    for path in sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]):
        text = re.sub(r"```.*?```", lambda m: "\n" * m[0].count("\n"), path.read_text(), flags=re.S)
        start = 1
        for paragraph in re.split(r"(\n\s*\n)", text):
            if paragraph.strip():
                yield Passage(path, start, re.sub(r"`[^`]*`", "`code`", paragraph))
            start += paragraph.count("\n")


PASSAGES = [*messages(), *documents()]


def test_texts_are_found() -> None:
    """The rules have something to judge: messages, help of commands, pages, the README."""
    places = {passage.where.partition(":")[0] for passage in PASSAGES}
    assert {"src/eegdm/processes.py", "src/eegdm/cli.py", "docs/index.md", "README.md"} <= places
    assert len(PASSAGES) > 1000
    assert any("is not available on this machine" in passage.text for passage in PASSAGES)


@pytest.mark.parametrize("rule", RULES)
def test_texts_keep_the_rule(rule: str) -> None:
    broken = []
    for passage in PASSAGES:
        for match in re.finditer(rule, passage.text, re.IGNORECASE):
            around = passage.text[max(0, match.start() - 40) : match.end() + 40]
            broken.append(f"{passage.where}: ...{around}...")
    assert not broken, f"write {RULES[rule]}:\n" + "\n".join(broken)
