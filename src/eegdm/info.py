"""`eegdm info`: what a folder holds, from what it was made, how large it is, whether it is
intact.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from eegdm import artifacts
from eegdm.config import WindowConfig
from eegdm.console import file_size
from eegdm.data.windows import PUBLISHED_SPLIT, describe_event_counts, events_per_split
from eegdm.errors import UserError


def describe_artifact(folder: Path, verify: bool = False) -> Iterator[str]:
    """Yield lines about a finished artefact.

    Raises:
        UserError: no artefact, or with ``verify`` a damaged one; all damages are named first.
    """
    folder = Path(folder)
    artifact = artifacts.read_manifest(folder) if verify else artifacts.open_artifact(folder)
    size = sum(entry["bytes"] for entry in artifact.files.values())
    yield (
        f"{folder}: {artifact.kind}, {len(artifact.files)} files, {file_size(size)}, written by"
        f" eegdm {artifact.version}"
    )
    yield f"fingerprint {artifact.fingerprint}"
    for name, value in artifact.inputs.items():
        yield f"made from {name} {value}"
    for name, value in artifact.summary.items():
        yield from _lines(name, value)
    if artifact.kind in ("recordings", "embeddings"):
        table = artifacts.read_table(artifact / "recordings.parquet")
        if artifact.kind == "recordings":
            yield from _published_events(artifact, table)
        for r in table[table.status != "ok"].itertuples():
            yield f"failed {r.file}: {r.reason}"
    if verify:
        faults = artifacts.verify(folder)
        if faults:
            raise UserError("\n".join(faults))
        yield "intact: every file has the size and SHA-256 of the manifest"


def _lines(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield f"{name}: " + ", ".join(
            f"{k} {v:,}" if isinstance(v, int) else f"{k} {v}" for k, v in value.items()
        )
    else:
        yield f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value}"


def _published_events(artifact: artifacts.Artifact, table: pd.DataFrame) -> Iterator[str]:
    events = artifacts.read_table(artifact / "events.parquet")
    corpus = artifact.config["corpus"]["name"]
    if corpus in PUBLISHED_SPLIT and len(events):
        yield from describe_event_counts(
            events_per_split(table, events, corpus, WindowConfig()), corpus
        )
