"""Corpora whose runs are tasks: what happened in a run of eegmmidb or EEGMAT.

Both say it by the number of the run. In eegmmidb the annotations T0, T1 and T2 mean something else
in each kind of run; EEGMAT's recordings hold one condition each. Sources: the databases' pages,
https://physionet.org/content/eegmmidb/1.0.0/ and https://physionet.org/content/eegmat/1.0.0/.
"""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from eegdm.data.events import Event, event_table, from_annotations, shown
from eegdm.errors import UserError

EEGMMIDB_NAME = re.compile(r"(?P<subject>S\d{3})R(?P<run>0[1-9]|1[0-4])")
EEGMAT_NAME = re.compile(r"(?P<subject>Subject\d\d)_(?P<run>[12])")
"""Stems of the files."""

_BASELINES = {"01": "eyes_open", "02": "eyes_closed"}
# Runs 3 to 14 repeat these four tasks three times: what T1 and T2 ask for.
_TASKS = (
    ("executed_left_fist", "executed_right_fist"),
    ("imagined_left_fist", "imagined_right_fist"),
    ("executed_both_fists", "executed_both_feet"),
    ("imagined_both_fists", "imagined_both_feet"),
)
_CONDITIONS = {"1": "rest", "2": "arithmetic"}


def eegmmidb_events(run: str, raw: Any) -> pd.DataFrame:
    """Return the events of a run of eegmmidb: the whole recording of a baseline, or rest and the
    movements, executed or imagined.

    Args:
        run: "01" to "14".
        raw: the opened recording, an ``mne.io.Raw`` with the annotations T0, T1 and T2.

    Raises:
        UserError: an annotation is none of the three.
    """
    if run in _BASELINES:
        return _whole(_BASELINES[run])
    meaning = dict(zip(("T0", "T1", "T2"), ("rest", *_TASKS[(int(run) - 3) % 4]), strict=True))
    events = from_annotations(raw)
    if strange := sorted(set(events.label) - set(meaning)):
        raise UserError(
            f"run {run}: has an annotation {shown(strange[0])}; those of eegmmidb are"
            f" {', '.join(meaning)}: corpus=folder reads other recordings"
        )
    return events.assign(label=events.label.map(meaning).astype(object))


def eegmat_events(run: str, raw: Any) -> pd.DataFrame:
    """Return the one event of a recording of EEGMAT: rest (run "1") or arithmetic (run "2")."""
    return _whole(_CONDITIONS[run])


def _whole(label: str) -> pd.DataFrame:
    return event_table([Event(None, 0.0, float("nan"), label)])
