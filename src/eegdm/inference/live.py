"""The computing of a recording that is being written: its windows, as soon as what comes later no
longer changes their samples, and their events.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from eegdm import artifacts
from eegdm.data.channels import DerivedChannels
from eegdm.data.incoming import Incoming
from eegdm.data.signal import SpreadSoFar, channel_spreads_uv
from eegdm.data.windows import WindowGrid
from eegdm.errors import UserError
from eegdm.evaluation.decision import EVENT_COLUMNS, EVENTS, Follower, rule_of, window_table
from eegdm.inference.chunks import CHUNK, chunk_path, classifier_logits
from eegdm.inference.growing import Growing
from eegdm.inference.prediction import (
    Options,
    calibrated_reference,
    preparation_settings,
    refuse_unused_calibration,
    slots_of,
)
from eegdm.inference.preparation import as_raw, plan_treatment
from eegdm.processes import pick_device

if TYPE_CHECKING:
    from eegdm.models.eegdm import EEGDM

SETTLED_S = 120.0
"""Of a recording, before its spread is used: a minute in which electrodes are attached may spread
ten times as much as the rest."""


class Update(NamedTuple):
    """What is new of a recording.

    Attributes:
        recording: its file.
        windows: rows as of :class:`eegdm.inference.Prediction`, and recorded_s: how much of the
            recording was there when the row came about.
        ended: events that have ended, rows as there.
        begun: the event that has begun, as far as it is known, once it is as long as an event has
            to be; told once.
        behind_s: by how much the windows lag, beyond the look-ahead that they need.
    """

    recording: Path
    windows: pd.DataFrame
    ended: pd.DataFrame
    begun: pd.DataFrame
    behind_s: float


def refuse_unknown_future(model: EEGDM, options: Options) -> None:
    """Refuse what depends on a whole recording."""
    refuse_unused_calibration(model, options)
    if model.centre is not None and options.calibration is None:
        raise UserError(
            "this classifier's tokens are centred by what is usual in the whole recording, which is"
            " not there yet; name another recording of the same person with calibration="
        )
    if options.notch == "auto":
        raise UserError(
            "notch=auto: the hum of the whole recording decides; state 50 or 60 instead"
        )


class Live:
    """A recording that is being written, and a classifier.

    Args:
        growing: the recording; a second of it is there.
        model, options: as for `predict_in`.
        chunks: a folder for chunks of windows, which `predict` may take over.

    Attributes:
        path: the recording's file.
        n_channels: the number of channels that the model is shown.
        look_ahead_s: how much of the recording must be there after a window.

    Raises:
        UserError: the recording lacks channels, or the calibration can't be used.
    """

    def __init__(self, growing: Growing, model: EEGDM, options: Options, chunks: Path) -> None:
        self.path = growing.path
        self._growing, self._model, self._options = growing, model, options
        self._chunks = chunks
        treatment = plan_treatment(growing, preparation_settings(model, options))
        filtering, _ = treatment.filtering.effective(growing.sfreq)
        self._channels = DerivedChannels(treatment.source, treatment.derivations)
        self._incoming = Incoming(self._channels.read, growing.sfreq, filtering)
        self._sfreq, self.n_channels = filtering.sfreq, len(treatment.derivations)
        self.look_ahead_s = self._incoming.look_ahead_s
        self._slots, self._device = slots_of(model, treatment), pick_device(options.device)
        self._reference = (
            None
            if options.calibration is None
            else calibrated_reference(chunks, options.calibration, model, treatment, options)
        )
        self._rule = rule_of(model, **options.rule)
        self._window_s = model.n_times / model.sfreq
        self._step_s = options.step_s or self._rule.resolution_s
        onsets = self._grid(round((self._window_s + 100 * self._step_s) * self._sfreq)).onset_s
        self._follower = Follower(self._rule, float(np.median(np.diff(onsets))))
        self._spread = SpreadSoFar() if model.signal.get("spread") else None
        # Filtered samples that the windows to come may need, from which one on.
        self._signal = np.empty((self.n_channels, 0), np.float32)
        self._first = self._n_windows = 0
        # Of the windows that do not fill a chunk yet.
        self._logits: list[ndarray] = []

    def step(self, seconds: float | None) -> Update | None:
        """Compute the next windows; None if there are not enough samples, of which only the first
        ``seconds`` count.

        Raises:
            Away, UserError: as `Growing`.
        """
        growing, n_times = self._growing, self._growing.n_times
        if seconds is not None:
            n_times = min(n_times, round(seconds * growing.sfreq))
        while not len(starts := self._next_starts()):
            found = self._incoming.next_span(n_times)
            if found is None:
                return None
            span, source = found
            growing.fetch(*source)
            kept = self._signal[:, max(self._next_start() - self._first, 0) :]
            self._first += self._signal.shape[1] - kept.shape[1]
            block = self._incoming.block(span).signal
            self._signal = np.concatenate([kept, block], axis=1)
            if self._spread is not None:
                self._spread.add(block)
        return self._update(starts)

    def doubt(self) -> str | None:
        """Why what has come can't be EEG in volts; `eegdm predict` refuses the recording if that is
        so of all of it.
        """
        try:
            self._channels.quality(channel_spreads_uv(self._signal))
        except UserError as error:
            return str(error)
        return None

    @property
    def scales_by_spread(self) -> bool:
        """Whether probabilities depend on the spread of the recording, which is not known yet."""
        return self._spread is not None

    def is_over(self, seconds: float | None) -> bool:
        """Whether that many seconds of the recording are there."""
        return seconds is not None and self._growing.n_times >= seconds * self._growing.sfreq

    def reusable_chunks(self) -> Path | None:
        """Return the folder of chunks, if those of the finished recording are the same.

        Raises:
            UserError: as `open_recording`.
        """
        growing, model = self._growing, self._model
        if self._spread is not None:
            return None
        if not growing.has_ended:
            # It will be longer when predict reads it, which may move the time grid of resampling.
            return self._chunks if growing.sfreq == self._sfreq else None
        whole = as_raw(self.path, self._options.unit, model.taken_for or model.channels)
        # Samples that are marked as no data are left out at its end.
        is_same = whole.n_times == growing.n_times and self._incoming.shares_grid(whole.n_times)
        return self._chunks if is_same else None

    def _grid(self, n_times: int) -> WindowGrid:
        return WindowGrid.cover(n_times, self._sfreq, self._window_s, self._step_s)

    def _next_start(self) -> int:
        """Where the next window starts, or a sample before."""
        return max(int(self._n_windows * self._step_s * self._sfreq) - 1, 0)

    def _next_starts(self) -> ndarray:
        """Where the windows start that are to be computed together."""
        n_times = self._first + self._signal.shape[1]
        least_s = self._window_s if self._spread is None else max(self._window_s, SETTLED_S)
        if n_times < round(least_s * self._sfreq):
            return np.empty(0, np.int64)
        n = min(self._options.batch_size, CHUNK - sum(map(len, self._logits)))
        return self._grid(n_times).starts[self._n_windows :][:n]

    def _read(self, start: int, stop: int) -> Float[ndarray, "channel time"]:
        return self._signal[:, start - self._first : stop - self._first]

    def _update(self, starts: ndarray) -> Update:
        windows = WindowGrid(starts, round(self._window_s * self._sfreq), self._sfreq)
        logits = classifier_logits(
            self._model,
            windows,
            self._read,
            1.0 if self._spread is None else self._spread.measure(),
            self._slots,
            self._device,
            self._options.batch_size,
            self._reference,
        )
        self._logits.append(logits)
        self._n_windows += len(starts)
        if self._n_windows % CHUNK == 0:
            path = chunk_path(self._chunks, self._n_windows // CHUNK - 1)
            artifacts.write_array(path, np.concatenate(self._logits))
            self._logits.clear()
        table = window_table(windows, logits, self._rule)
        none = pd.DataFrame(columns=EVENT_COLUMNS)
        ended, begun = self._follower.add(table) if self._rule.decide == EVENTS else (none, none)
        recorded_s = self._growing.n_times / self._growing.sfreq
        next_end_s = (self._next_start() / self._sfreq) + self._window_s
        behind_s = max(recorded_s - next_end_s - self.look_ahead_s, 0.0)
        table = table.assign(recorded_s=recorded_s)
        return Update(self._growing.path, table, ended, begun, behind_s)
