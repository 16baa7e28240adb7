"""What a report is made of (text, tables, pictures) and the two pages it becomes: HTML by
mne.Report, and Markdown.

Words come from strangers' files: they are escaped in one place for each page (HTML by Jinja2), and
folders of this machine are cut from them.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from eegdm.artifacts import atomic_path


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Points:
    """A list of terms, each with its explanation."""

    points: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """Rows of cells; ``strong`` rows (by index) are ours."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Picture:
    """A figure, words for those who can't see it, and a caption; a wide one is scrolled sideways on
    a small screen.
    """

    figure: Figure
    alt: str
    caption: str = ""
    wide: bool = False


Element = Text | Points | Table | Picture


@dataclass(frozen=True)
class Section:
    """A heading and what is below it."""

    title: str
    elements: list[Element] = field(default_factory=list)


# An absolute path up to its last part, of POSIX or Windows; not a URL, a unit (µV²/Hz) or a
# relative path.
_FOLDERS = re.compile(
    r"(?<![\w:/.\]²])~?/(?:[^/\s'\"<>]+/)+|\b[A-Za-z]:\\(?:[^\\\s'\"<>]+\\)+|\bfile://(?:/[^/\s'\"<>]+)*/"
)


def without_folders(text: str) -> str:
    """Cut absolute folders from a text, leaving names: reports travel, and a folder often names a
    person.
    """
    return _FOLDERS.sub("", text)


# ------------------------------------------------------------------------------------------- HTML

_TEMPLATES = Path(__file__).parent / "templates"
_TAG = "eegdm"  # MNE's script fails on a part without a tag
_VIEWPORT = '<meta name="viewport" content="width=device-width, initial-scale=1">'


def write_html(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write one self-contained page: no request leaves it."""
    import mne

    page = mne.Report(title=without_folders(title), verbose="error")
    page.include += _VIEWPORT  # MNE's page leaves it out, and telephones then shrink everything
    page.add_custom_css((_TEMPLATES / "page.css").read_text(encoding="utf-8"))
    template = _environment().get_template("section.html.j2")
    for section in sections:
        page.add_html(template.render(section=section), title=section.title, tags=(_TAG,))
    with atomic_path(path) as temporary:
        page.save(temporary, open_browser=False, overwrite=True, verbose="error")


def _environment() -> Environment:
    """Templates in which every text is escaped, without having to ask for it."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=_displayed,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["png_base64"] = _png_base64
    environment.tests["kind"] = lambda element, name: type(element).__name__ == name
    return environment


def _displayed(value: Any) -> Any:
    """What is shown of a text: no folder of this machine, and no line break around a ±."""
    # What is marked as safe stays as it is: parts of base64 look like folders.
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return without_folders(value).replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")


def _png_base64(figure: Figure) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=140)
    return base64.b64encode(stream.getvalue()).decode()


# --------------------------------------------------------------------------------------- Markdown


def write_markdown(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write the same without its pictures."""
    parts = [f"# {_markdown_text(title)}"]
    for section in sections:
        elements = [e for e in section.elements if not isinstance(e, Picture)]
        if elements:
            parts += [f"## {_markdown_text(section.title)}", *map(_markdown_element, elements)]
    with atomic_path(path) as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _markdown_text(text: str) -> str:
    marked = re.sub(r"([\\`*_\[\]|#])", r"\\\1", " ".join(without_folders(text).split()))
    return html.escape(marked, quote=False)


def _markdown_element(element: Text | Points | Table) -> str:
    match element:
        case Text(text):
            return _markdown_text(text)
        case Points(points):
            return "\n".join(f"- **{_markdown_text(t)}**: {_markdown_text(e)}" for t, e in points)
        case Table():
            rows = [element.header, ["---"] * len(element.header), *element.rows]
            lines = ["| " + " | ".join(map(_markdown_text, row)) + " |" for row in rows]
            return "\n".join(
                ([_markdown_text(element.caption), ""] if element.caption else []) + lines
            )
