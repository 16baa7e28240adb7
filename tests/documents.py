"""Running what documents show: their blocks of shell and Python, as a reader would type them, in
order, in one folder.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from conftest import ROOT
from stages.tiny import SIZES, one_thread

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)

# A page's Python shares its names, as in a notebook; shell blocks run between its blocks.
_RUNNER = """
import json, subprocess, sys
names = {"__name__": "__main__"}
for language, text in json.load(sys.stdin):
    print(f"--- {language}", flush=True)
    if language == "python":
        exec(compile(text, "<block>", "exec"), names)
    else:
        subprocess.run(["bash", "-euo", "pipefail", "-c", text], check=True, stdin=subprocess.DEVNULL)
"""  # noqa: E501


class Block(NamedTuple):
    """A fenced block of a document; the language is "" if none is named."""

    heading: str
    language: str
    text: str


def blocks(markdown: str) -> Iterator[Block]:
    """Yield the blocks of a document, each with the heading that it stands under."""
    heading, end = "", 0
    for found in _FENCE.finditer(markdown):
        heading = (
            [heading] + re.findall(r"^#+ (.*)$", markdown[end : found.start()], re.MULTILINE)
        )[-1]
        end = found.end()
        yield Block(heading, found["language"], found["text"])


def run_blocks(some: list[Block], folder: Path, words: Sequence[str] = SIZES) -> str:
    """Run blocks (bash, python) in a folder where `eegdm` is this checkout's; what they printed.
    Words precede those of every command.
    """
    bin_folder = folder / ".bin"
    bin_folder.mkdir(exist_ok=True)
    for name, arguments in (("eegdm", "-m eegdm"), ("python", "")):
        command = bin_folder / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        command.chmod(0o755)
    variables = {
        **one_thread(),
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "MPLBACKEND": "agg",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
        "EEGDM_DEFAULTS": " ".join(words),
    }
    given = json.dumps([[block.language, block.text] for block in some])
    command = [sys.executable, "-W", "ignore", "-c", _RUNNER]
    done = subprocess.run(
        command,
        input=given,
        capture_output=True,
        text=True,
        timeout=1500,
        cwd=folder,
        env=variables,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout
