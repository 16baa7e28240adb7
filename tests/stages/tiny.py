"""Settings under which every stage takes seconds, and what the tests of the stages ask of
folders.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from eegdm.data.synthetic.layouts import write_chbmit, write_tuev

SIZES = [
    "backbone.n_blocks=2",
    "backbone.d_model=8",
    "backbone.d_state=4",
    "backbone.d_cond=8",
    "backbone.d_embed=8",
    "pretrain.epochs=2",
    "pretrain.max_windows=6",
    "pretrain.batch_size=64",
    "pretrain.lr=2e-3",
    "pretrain.samples=1",
    "diffusion.n_steps=10",
    "fusion.depth=1",
    "fusion.n_tokens=2",
    "fusion.n_heads=2",
    "finetune.epochs=3",
    "finetune.batch_size=64",
    "finetune.max_lr=2e-3",
    "finetune.patience_from=1",
    "finetune.ema.start=2",
    "finetune.ema.every=1",
    "pretrain.ema.start=2",
    "pretrain.ema.every=1",
    "latents.shard_windows=16",
]
MADE_UP = {"n_train": 5, "n_eval": 2, "minutes": 1.2}
"""A made-up corpus: the shortest recordings that hold all six classes, and enough subjects to
validate on one.
"""

MADE_UP_CHBMIT = {"patients": (1, 21, 23), "n_recordings": 1, "minutes": 1.5}
"""One patient of each published part."""


def write_corpora(folder: Path) -> None:
    """Write both made-up corpora below a folder: tuev, chbmit."""
    write_tuev(folder / "tuev", **MADE_UP)
    write_chbmit(folder / "chbmit", **MADE_UP_CHBMIT)


class Finished(NamedTuple):
    """A run of the five stages with :data:`SIZES` on one made-up corpus: where each left its
    folder.
    """

    source: Path  # the corpus, in TUEV's layout
    root: Path
    recordings: Path
    backbone: Path
    latents: Path
    classifier: Path
    report: Path

    @property
    def words(self) -> list[str]:
        """What every command of this run was given."""
        return ["corpus=tuev", f"root={self.root}", *SIZES]

    def copied(self, root: Path) -> Finished:
        """Return a copy of the run below another root, for a test that adds to it."""
        shutil.copytree(self.root, root)
        return Finished(
            self.source, root, *(root / folder.relative_to(self.root) for folder in self[2:])
        )


def snapshot(*folders: Path) -> dict[Path, tuple[int, int]]:
    """Time of change in ns and size of every file below the folders, hidden ones (locks) left
    out.
    """
    files = [
        f
        for folder in folders
        for f in sorted(folder.rglob("*"))
        if f.is_file() and not f.name.startswith(".")
    ]
    return {f: (f.stat().st_mtime_ns, f.stat().st_size) for f in files}


def one_thread() -> dict[str, str]:
    """The environment of a process whose sums don't depend on how many cores it gets."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "COLUMNS": "200"}


def command_line(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "eegdm", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, cwd=cwd, env=one_thread()
    )
