"""What `eegdm predict` leaves of a recording: events, probabilities, a page, a copy, and the
sidecar that says how they came about; and the tables of a folder whose recordings were decided
about.

The sidecar is written last. With it a recording is finished, and the same command does not do it
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from eegdm import __version__, artifacts
from eegdm.errors import UserError
from eegdm.evaluation.decision import RecordingDecision
from eegdm.inference.prediction import Prediction

NO_DEVICE = (
    "For research, not a medical device: not to be used for diagnosis, treatment or monitoring of"
    " patients."
)
_SZCORE = {"seizure": "sz", "seiz": "sz", "sz": "sz"}
_COLUMN_DESCRIPTIONS = {
    "onset": {"Description": "start of the event, counted from the first sample", "Units": "s"},
    "duration": {"Description": "length of the event", "Units": "s"},
    "eventType": {
        "Description": (
            "class of the event; sz: seizure; bckg: the whole recording, no event was found"
        )
    },
    "confidence": {
        "Description": (
            "highest smoothed probability of the class within the event; of a whole recording that"
            " was decided about, the mean probability of its windows"
        )
    },
    "channels": {"Description": "always all: the model judges all channels together"},
    "dateTime": {"Description": "always n/a: the date of the recording is left out"},
    "recordingDuration": {"Description": "length of the recording", "Units": "s"},
}


class Places(NamedTuple):
    """Where the files of one recording go."""

    events: Path
    probabilities: Path
    sidecar: Path
    report: Path
    work: Path
    """A folder for unfinished work, gone at the end."""

    @classmethod
    def below(cls, folder: Path, stem: str) -> Places:
        """Place the files of the recording ``stem``, which may name subfolders."""
        base = folder / stem

        def file(name: str) -> Path:
            return base.with_name(f"{base.name}_{name}")

        work = base.with_name(f".{base.name}.eegdm")
        return cls(
            file("events.tsv"),
            file("probabilities.parquet"),
            file("events.json"),
            file("report.html"),
            work,
        )

    def refuse_foreign(self) -> None:
        """Refuse to replace an events file that somebody else wrote."""
        if self.events.exists() and not self.sidecar.exists():
            raise UserError(
                f"{self.events}: is there already and was not written by eegdm predict; name"
                " another folder with --out"
            )


def szcore_table(events: pd.DataFrame, recording_s: float) -> pd.DataFrame:
    """Return events in the columns of SzCORE's BIDS dialect; a recording without events is one row
    `bckg`.

    A class called seizure becomes SzCORE's `sz`; classes that SzCORE has no word for keep their
    names.
    """
    # SzCORE wants a row for a recording without events too: an empty file might be one of a run
    # that failed.
    if events.empty:
        events = pd.DataFrame(
            {
                "onset_s": [0.0],
                "duration_s": [recording_s],
                "label": ["bckg"],
                "probability": [np.nan],
            }
        )
    return pd.DataFrame(
        {
            "onset": events.onset_s.round(4),
            "duration": events.duration_s.round(4),
            "eventType": [_SZCORE.get(str(label).lower(), label) for label in events.label],
            "confidence": (
                events.probability.round(4).astype(object).where(events.probability.notna(), "n/a")
            ),
            "channels": "all",
            "dateTime": "n/a",
            "recordingDuration": round(recording_s, 4),
        }
    )


def write_tables(places: Places, prediction: Prediction) -> None:
    """Write events and probabilities."""
    with artifacts.atomic_path(places.events) as temporary:
        szcore_table(prediction.events, prediction.duration_s).to_csv(
            temporary, sep="\t", index=False
        )
    artifacts.write_table(places.probabilities, prediction.windows)


def write_sidecar(places: Places, prediction: Prediction, plan: dict[str, Any]) -> None:
    """Write the sidecar: BIDS descriptions of the columns, what was done and is to be noted, and
    the plan that decides whether it must be done again.
    """
    quality = prediction.quality.astype(object).where(prediction.quality.notna(), None)
    artifacts.write_json(
        places.sidecar,
        {
            **_COLUMN_DESCRIPTIONS,
            "GeneratedBy": {"Name": "eegdm", "Version": __version__},
            "Notice": NO_DEVICE,
            "Steps": prediction.steps,
            "Notes": prediction.notes,
            "Channels": quality.to_dict("records"),
            "Decision": prediction.decision and prediction.decision._asdict(),
            "Events": len(prediction.events),
            "RecordingDuration": prediction.duration_s,
            "Plan": plan,
        },
    )


def write_decisions(
    path: Path, rows: Sequence[tuple[dict[str, str], RecordingDecision | None]]
) -> None:
    """Write a table of decisions: what names each, label, n_windows and the probability of each
    class, mean over windows.

    Args:
        rows: what names a recording or person, by column, and its decision; None: it failed, and
            n/a stands in the table.
    """
    table = pd.DataFrame(
        [
            {
                **named,
                "label": decision and decision.label,
                "n_windows": decision.n_windows if decision else 0,
                **{
                    f"probability_{k}": p
                    for k, p in (decision.probability if decision else {}).items()
                },
            }
            for named, decision in rows
        ]
    )
    with artifacts.atomic_path(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, na_rep="n/a", float_format="%.6f")


def finished_sidecar(
    places: Places, plan: dict[str, Any], wanted: list[Path]
) -> dict[str, Any] | None:
    """Return the sidecar if it is of this plan and all wanted files are there, else None."""
    if not places.sidecar.is_file() or not all(path.is_file() for path in wanted):
        return None
    sidecar = artifacts.read_json(places.sidecar)
    return sidecar if isinstance(sidecar, dict) and sidecar.get("Plan") == plan else None
