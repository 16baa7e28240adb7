"""What a report is made of (text, tables, pictures) and the two pages it becomes: HTML by
mne.Report, and Markdown.

Words come from strangers' files: they are escaped here, in one place for each page, and folders of
this machine are cut from them.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

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


Block = Text | Points | Table | Picture


@dataclass(frozen=True)
class Section:
    """A heading and what is below it."""

    title: str
    blocks: list[Block] = field(default_factory=list)


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

_CSS = """
.eegdm p, .eegdm li, .eegdm dd { max-width: 46rem; }
.eegdm .scroll { overflow-x: auto; margin-bottom: 1rem; }
.eegdm figure .scroll { margin-bottom: .5rem; }
.eegdm table { width: auto; margin-bottom: 0; }
.eegdm .caption { color: #333; margin-bottom: .25rem; }
.eegdm td, .eegdm th { padding: .25rem .9rem .25rem 0; vertical-align: top; }
.eegdm td { min-width: 4.2rem; }
.eegdm td:first-child { min-width: 7rem; }
.eegdm td + td { font-variant-numeric: tabular-nums; }
.eegdm tr.strong td { font-weight: 600; background: #eef4fa; }
.eegdm figure { display: inline-block; max-width: 100%; margin: 0 1.5rem 1.5rem 0; vertical-align: top; }
.eegdm img { max-width: 100%; height: auto; }
.eegdm figcaption { color: #333; max-width: 46rem; }
#filter-by-tags-dropdown-menu, .accordion-button .badge { display: none; }
#top-bar .fs-3 { white-space: normal; overflow-wrap: anywhere; }
@media (max-width: 800px) {
  #top-bar { position: static; }
  #top-bar .fs-3 { font-size: 1.1rem !important; }
  #toc { position: static !important; height: auto !important; width: 100%; margin-top: 1rem !important;
         padding-bottom: 1rem !important; }
  #content { width: 100%; margin: 0 !important; padding: 0 .25rem; }
  .eegdm .wide::before { content: "wider than the screen: scroll sideways"; font-size: .8rem; color: #666;
                         position: sticky; left: 0; }
  .eegdm .wide img { max-width: none; width: 860px; }
  .eegdm table { font-size: .85rem; }
  .eegdm td:first-child { min-width: 5rem; }
  .accordion-body { padding: .75rem .5rem; }
}
"""  # noqa: E501
_TAG = "eegdm"  # MNE's script fails on a part without a tag
_VIEWPORT = '<meta name="viewport" content="width=device-width, initial-scale=1">'


def write_html(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write one self-contained page: no request leaves it."""
    import mne

    page = mne.Report(title=without_folders(title), verbose="error")
    page.include += _VIEWPORT  # MNE's page leaves it out, and telephones then shrink everything
    page.add_custom_css(_CSS)
    for section in sections:
        body = "".join(_html_block(block) for block in section.blocks)
        page.add_html(f'<div class="eegdm">{body}</div>', title=section.title, tags=(_TAG,))
    with atomic_path(path) as temporary:
        page.save(temporary, open_browser=False, overwrite=True, verbose="error")


def _html_text(text: str) -> str:
    return html.escape(without_folders(text)).replace(" ± ", "&nbsp;±&nbsp;")


def _html_block(block: Block) -> str:
    match block:
        case Text(text):
            return f"<p>{_html_text(text)}</p>"
        case Points(points):
            return f"<ul>{''.join(f'<li><b>{_html_text(t)}</b>: {_html_text(e)}</li>' for t, e in points)}</ul>"  # noqa: E501
        case Table():
            return _html_table(block)
        case Picture():
            return _html_picture(block)


def _html_table(table: Table) -> str:
    head = "".join(f'<th scope="col">{_html_text(cell)}</th>' for cell in table.header)
    body = ""
    for index, row in enumerate(table.rows):
        cells = "".join(f"<td>{_html_text(cell)}</td>" for cell in row)
        body += f'<tr class="strong">{cells}</tr>' if index in table.strong else f"<tr>{cells}</tr>"
    caption = f'<p class="caption">{_html_text(table.caption)}</p>' if table.caption else ""
    inner = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'{caption}<div class="scroll"><table class="table table-sm">{inner}</table></div>'


def _html_picture(picture: Picture) -> str:
    stream = io.BytesIO()
    picture.figure.savefig(stream, format="png", dpi=140)
    data = base64.b64encode(stream.getvalue()).decode()
    width = round(100 * picture.figure.get_figwidth())
    image = (
        f'<img width="{width}" src="data:image/png;base64,{data}" alt="{_html_text(picture.alt)}">'
    )
    frame = "scroll wide" if picture.wide else "scroll"
    caption = f"<figcaption>{_html_text(picture.caption)}</figcaption>" if picture.caption else ""
    return f'<figure><div class="{frame}">{image}</div>{caption}</figure>'


# --------------------------------------------------------------------------------------- Markdown


def write_markdown(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write the same without its pictures."""
    parts = [f"# {_markdown_text(title)}"]
    for section in sections:
        blocks = [block for block in section.blocks if not isinstance(block, Picture)]
        if blocks:
            parts += [f"## {_markdown_text(section.title)}", *map(_markdown_block, blocks)]
    with atomic_path(path) as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _markdown_text(text: str) -> str:
    marked = re.sub(r"([\\`*_\[\]|#])", r"\\\1", " ".join(without_folders(text).split()))
    return html.escape(marked, quote=False)


def _markdown_block(block: Text | Points | Table) -> str:
    match block:
        case Text(text):
            return _markdown_text(text)
        case Points(points):
            return "\n".join(f"- **{_markdown_text(t)}**: {_markdown_text(e)}" for t, e in points)
        case Table():
            rows = [block.header, ["---"] * len(block.header), *block.rows]
            lines = ["| " + " | ".join(map(_markdown_text, row)) + " |" for row in rows]
            return "\n".join(([_markdown_text(block.caption), ""] if block.caption else []) + lines)
