"""What the site needs beyond Markdown: links that lead out of docs/, to files of the repository,
become their text.
"""

from __future__ import annotations

import re
from typing import Any

HOME = re.compile(r"\]\(\.\./README\.md\)")
OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./(?!\.\.)[^)]+\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    if "/" in page.file.src_uri:  # of a folder below docs/, where ../ is docs/ itself
        return markdown
    return OUTSIDE.sub(r"`\1`", HOME.sub("](index.md)", markdown))
