"""What the tokens of labelled data are centred by: a pass of the backbone over a few windows of
each recording, the same that `eegdm predict` makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from eegdm.config import Config
from eegdm.console import say, track
from eegdm.data.recordings import Recordings, channel_places
from eegdm.data.windows import WindowGrid
from eegdm.errors import UserError
from eegdm.models.centring import joint_reference
from eegdm.models.eegdm import EEGDM
from eegdm.opening import LabelledData
from eegdm.processes import pick_device


class _OfRecording(NamedTuple):
    reference: Float[Tensor, "block query channel feature"]
    n_windows: Float[Tensor, " channel"]
    """0 where the recording lacks the channel."""


def with_references(config: Config, data: LabelledData, model: EEGDM) -> LabelledData:
    """Return the data with what the tokens of each recording that has samples are centred by; as
    they are for a classifier of tokens that are not centred.

    Centred per subject, recordings of these subjects that have no samples count too.

    Raises:
        UserError: a recording is shorter than two windows, or they are filtered window by window.
    """
    if model.centre is None:
        return data
    if data.recordings.per_window:
        raise UserError(
            f"{data.recordings.artifact.path}: is filtered window by window (signal.per_window);"
            " tokens are centred over a recording that is filtered as a whole, so run"
            " `eegdm preprocess` without it in another root="
        )
    table = data.recordings.table
    labelled = table.recording.isin(data.samples.recording)
    group = table[model.centre]
    own = table[group.isin(group[labelled])]
    say(f"tokens are centred per {model.centre}: reading windows of {len(own)} recordings")
    where = pick_device(config.run.device)
    model.to(where)
    places = channel_places(own, model.channels)
    found = {
        r.recording: _of_recording(model, data.recordings, r, places[r.recording], where)
        for r in track(own.itertuples(), "reference", len(own))
    }
    model.cpu()
    references: dict[str, Tensor] = {}
    for _, rows in own.groupby(model.centre, sort=False):
        parts = [found[name] for name in rows.recording]
        joint = joint_reference(
            torch.stack([part.reference for part in parts]),
            torch.stack([part.n_windows for part in parts]),
        )
        references |= dict.fromkeys(rows.recording, joint)
    return data._replace(references=references)


def refuse_removed_labels(centre: str, group: Sequence[str], label: Sequence[int]) -> None:
    """Refuse to centre where each group has one label, which centring would remove.

    Args:
        centre: what a group is, "recording" or "subject".
        group: of each window that is learned from.
        label: of each of them.
    """
    table = pd.DataFrame({"group": np.asarray(group), "label": np.asarray(label)})
    if table.groupby("group").label.nunique().max() < 2:
        advice = "; centre=subject may keep them" if centre == "recording" else ""
        raise UserError(
            f"centre={centre}: each {centre} has windows of one label alone, and centring would"
            f" remove the difference between labels; leave it out{advice}"
        )


def _of_recording(
    model: EEGDM,
    recordings: Recordings,
    recording: Any,
    places: tuple[np.ndarray, np.ndarray],
    where: torch.device,
) -> _OfRecording:
    """What is usual in a recording (its row of the table), in the order of the model's channels."""
    name, (rows, columns) = recording.recording, places
    try:
        windows = WindowGrid.reference(
            recording.n_times, recording.sfreq, model.n_times / model.sfreq
        )
        cut = np.stack([recordings.window(name, int(s), windows.n_times) for s in windows.starts])
        data = np.zeros((len(cut), len(model.channels), cut.shape[-1]), np.float32)
        data[:, columns] = cut[:, rows]
        reference = model.reference(torch.from_numpy(data).to(where), recordings.sfreq).cpu()
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    n_windows = torch.zeros(len(model.channels))
    n_windows[torch.from_numpy(columns)] = len(cut)
    return _OfRecording(reference, n_windows)
