"""EEGDMFeatures: a backbone's tokens as features for scikit-learn."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from eegdm.data.channels import PER_VOLT, difference, refuse_implausible
from eegdm.data.montage import TCP, Derivation, derive
from eegdm.data.names import read_names
from eegdm.data.plan import intracranial, settle
from eegdm.data.positions import match_to_montage
from eegdm.data.signal import ModelUnits
from eegdm.errors import UserError

if TYPE_CHECKING:
    import mne

    from eegdm.models.backbone import SSMDP
    from eegdm.models.eegdm import EEGDM

    Windows: TypeAlias = ndarray | mne.BaseEpochs | list[mne.BaseEpochs]

VOLTS_PER_UNIT = {"V": 1.0, "mV": 1e-3, "uV": 1e-6}
_CHANNEL_SOURCES = ("file", "montage")
MONTAGES = {"own": "file", "tcp": "montage"}  # older names of these
TIMES = ("mean", "concat")


class _Cut(NamedTuple):
    """Windows as an array, and what their source says of them."""

    volts: Float[ndarray, "window channel time"]
    ch_names: list[str]
    sfreq: float
    intracranial: list[str]


class EEGDMFeatures(TransformerMixin, BaseEstimator):
    """Turns windows of EEG into the pooled activities of a backbone; learns nothing from them.

    Takes arrays (window, channel, time) with `ch_names` and `sfreq`, or `mne.Epochs`, which bring
    both. The windows should have been filtered as the backbone's recordings were (0.1-75 Hz and a
    notch at the mains frequency), before they were cut. They may have any sampling rate; nothing is
    resampled.

    Parameters
    ----------
    model
        A backbone or classifier (of which the backbone is taken), or its folder, checkpoint or hub
        id.
    ch_names
        The channels of arrays, in the order of their second axis: electrodes (`C3`, `EEG C3-REF`),
        or pairs of them (`C3-CZ`).
    sfreq
        Sampling rate of arrays, Hz.
    unit
        Unit of arrays: V, mV or uV. `mne.Epochs` are in volts; what they mark as bad is left out.
    channels
        As in :func:`eegdm.embed`. "file": each channel as it is, conditioned on the nearest of the
        22 by its place on the head. "montage": those of the 22 bipolar channels that can be
        derived, which the backbone was trained on.
    query
        Activities to read: gate, filter or inter, or a list of these.
    pool
        How they are pooled over each second: std or mean, or a list of as many as `query` has.
    step
        The diffusion step that the backbone is given.
    first_block
        First block to read, counted from 0.
    last_block
        Block before which reading ends; None reads to the last.
    over_time
        "mean" over the seconds of a window, or "concat": the seconds side by side.
    highpass
        High-pass for each window, Hz; None for none. A window of a few seconds is too short for
        0.1 Hz: filter the recording instead.
    lowpass
        Low-pass for each window, Hz; None for none.
    notch
        Frequencies to notch in each window, Hz; none by default.
    mu
        Companding of amplitudes above 100 µV; None: as in the model's pretraining (its config.json
        says it, 255 where it does not), 0 leaves them.

        A backbone that was pretrained with signal.spread divides windows by the robust spread of
        all windows that `transform` is given: give it those of one recording, or one person, at a
        time.
    batch_size
        Windows at a time.
    device
        auto, cpu, cuda or mps.
    montage
        An older name of `channels`: "own" is "file", "tcp" is "montage".

    Attributes
    ----------
    backbone_ : SSMDP
        A backbone of its own, on the CPU.
    ch_names_ : list of str
        The channels that are read.
    channel_ids_ : list of int
        The id that the backbone is given for each of them.
    sfreq_ : float
        Sampling rate of the windows it was fitted on, Hz; others are refused, as for the next two.
    n_channels_in_ : int
        Their number of channels.
    n_times_in_ : int
        Their length in samples.

    Examples
    --------
    >>> features = EEGDMFeatures("runs/tuev/base/backbone", channels="montage", first_block=10)  # doctest: +SKIP
    >>> make_pipeline(features, StandardScaler(), LogisticRegression()).fit(epochs, epochs.events[:, 2])  # doctest: +SKIP

    """  # noqa: E501

    def __init__(
        self,
        model: SSMDP | EEGDM | str | Path,
        ch_names: Sequence[str] | None = None,
        sfreq: float | None = None,
        *,
        unit: str = "V",
        channels: str = "file",
        query: str | Sequence[str] = "gate",
        pool: str | Sequence[str] = "std",
        step: int = 1,
        first_block: int = 0,
        last_block: int | None = None,
        over_time: str = "mean",
        highpass: float | None = None,
        lowpass: float | None = None,
        notch: Sequence[float] = (),
        mu: float | None = None,
        batch_size: int = 16,
        device: str = "auto",
        montage: str | None = None,
    ) -> None:
        # As they come, and checked by fit: scikit-learn's clone() compares them with get_params().
        self.model = model
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.unit = unit
        self.channels = channels
        self.query = query
        self.pool = pool
        self.step = step
        self.first_block = first_block
        self.last_block = last_block
        self.over_time = over_time
        self.highpass = highpass
        self.lowpass = lowpass
        self.notch = notch
        self.mu = mu
        self.batch_size = batch_size
        self.device = device
        self.montage = montage

    def fit(self, X: Windows, y: Any = None) -> Self:
        """Load the backbone and note what the windows look like.

        Parameters
        ----------
        X
            Windows: an array (window, channel, time) in `unit`, or `mne.Epochs`. It stays as it is.
        y
            Not used; pipelines hand it over.

        Returns
        -------
        EEGDMFeatures
            The estimator itself.

        Raises
        ------
        UserError
            If a parameter is not allowed, channels have no place on the head, or the windows cannot
            be EEG in the unit said.
        """
        for name, allowed in (
            ("unit", VOLTS_PER_UNIT),
            ("channels", _CHANNEL_SOURCES),
            ("montage", (None, *MONTAGES)),
            ("over_time", TIMES),
        ):
            if getattr(self, name) not in allowed:
                choices = ", ".join(value for value in allowed if value is not None)
                raise UserError(f"{name}={getattr(self, name)!r}: choose from {choices}")
        cut = self._cut(X)
        plan = _derivations(cut, MONTAGES[self.montage] if self.montage else self.channels)
        _refuse_not_eeg(cut, self.unit)
        self.backbone_ = _backbone(self.model)
        # How many pools a window has is asked of the backbone itself, by one window of one channel.
        first = cut.volts[:1, [0]]
        self.n_pools_ = len(self._tokens(first, [plan[0].channel_id], cut.sfreq)[0, 0])
        self.n_channels_in_, self.n_times_in_ = cut.volts.shape[1:]
        self.sfreq_, self.plan_ = cut.sfreq, plan
        self.ch_names_, self.channel_ids_ = [d.name for d in plan], [d.channel_id for d in plan]
        self._in_names = cut.ch_names
        return self

    def transform(self, X: Windows) -> Float[ndarray, "window feature"]:
        """Return the features of windows.

        Parameters
        ----------
        X
            Windows with the channels, length and sampling rate of those it was fitted on: an array
            (window, channel, time) in `unit`, or `mne.Epochs`. It stays as it is.

        Returns
        -------
        array of shape (window, feature), float32
            Pooled activities, which have no unit; :meth:`get_feature_names_out` names them.

        Raises
        ------
        UserError
            If the windows differ from those it was fitted on, hold missing or infinite values, or
            cannot be EEG in the unit said.
        """
        check_is_fitted(self)
        cut = self._cut(X)
        self._refuse_others(cut)
        _refuse_not_eeg(cut, self.unit)
        derived = self._filtered(_derived(cut, self.plan_), cut.sfreq)
        measured = self._units().measure(np.concatenate(list(derived), axis=1))
        batches = np.array_split(derived, -(-len(derived) // self.batch_size))
        self.backbone_.to(_device(self.device))
        try:
            pooled = [
                self._pooled(self._tokens(batch, self.channel_ids_, cut.sfreq, measured))
                for batch in batches
            ]
        finally:
            # From the CPU, a pickled estimator can be read on any machine.
            self.backbone_.cpu()
        return np.concatenate(pooled).reshape(len(derived), -1)

    def get_feature_names_out(self, input_features: Any = None) -> ndarray:
        """Name each feature `block_second_query_pool_channel_feature`, such as
        `b3_s0_gate_std_C3-CZ_f17`; "all" for a mean over time.

        Parameters
        ----------
        input_features
            Not used; scikit-learn hands it over.

        Returns
        -------
        array of shape (feature,) of str
            In the order of the columns of :meth:`transform`.

        Raises
        ------
        NotFittedError
            If it was not fitted yet.
        """
        check_is_fitted(self)
        blocks = self.backbone_.chosen_blocks(slice(self.first_block, self.last_block))
        seconds = ["all"] if self.over_time == "mean" else [f"s{i}" for i in range(self.n_pools_)]
        queries, pools = (
            ([self.query], [self.pool]) if isinstance(self.query, str) else (self.query, self.pool)
        )
        reads = [f"{query}_{pool}" for query, pool in zip(queries, pools, strict=True)]
        features = range(self.backbone_.config["d_model"])
        return np.array(
            [
                f"b{b}_{s}_{read}_{name}_f{i}"
                for b in blocks
                for s in seconds
                for read in reads
                for name in self.ch_names_
                for i in features
            ],
            dtype=object,
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        tags.requires_fit = True
        return tags

    def _cut(self, X: Windows) -> _Cut:
        import mne

        # scikit-learn divides epochs into a list of single ones, for cross-validation for example.
        epochs: list[Any] = X if isinstance(X, list) else [X]
        if epochs and all(isinstance(part, mne.BaseEpochs) for part in epochs):
            bads = {name for part in epochs for name in part.info["bads"]}
            first = epochs[0]
            names = [name for name in first.ch_names if name not in bads]
            sfreq = float(first.info["sfreq"])
            volts = np.concatenate([part.get_data(names, verbose="ERROR") for part in epochs])
            inside = [name for name in intracranial(first) if name not in bads]
            return _Cut(_refuse_bad_windows(volts), names, sfreq, inside)
        if self.ch_names is None or self.sfreq is None:
            raise UserError(
                "arrays state neither channels nor rate: give ch_names= and sfreq=, or mne.Epochs"
                " instead of an array"
            )
        values = _refuse_bad_windows(np.asarray(X, np.float64))
        if values.shape[1] != len(self.ch_names):
            raise UserError(
                f"X has {values.shape[1]} channels, ch_names names {len(self.ch_names)}:"
                f" {', '.join(self.ch_names)}"
            )
        if repeated := [name for name, n in Counter(self.ch_names).items() if n > 1]:
            raise UserError(
                f"ch_names names {', '.join(map(ascii, repeated))} repeatedly; leave out all but"
                " one, or number them as MNE does (T8-P8-0, T8-P8-1)"
            )
        return _Cut(values * VOLTS_PER_UNIT[self.unit], list(self.ch_names), float(self.sfreq), [])

    def _refuse_others(self, cut: _Cut) -> None:
        fitted = self.n_channels_in_, self.n_times_in_, self.sfreq_
        got = *cut.volts.shape[1:], cut.sfreq
        if got != fitted:
            raise UserError(
                "X has {} channels, {} samples at {:g} Hz".format(*got)
                + "; it was fitted on {} channels, {} samples at {:g} Hz".format(*fitted)
            )
        if cut.ch_names != self._in_names:
            raise UserError(
                f"X has the channels {', '.join(cut.ch_names)}; it was fitted on"
                f" {', '.join(self._in_names)}, in that order"
            )

    def _units(self) -> ModelUnits:
        stated = ModelUnits.of(self.backbone_.info.get("signal", {}))
        return stated if self.mu is None else replace(stated, mu=self.mu)

    def _tokens(
        self,
        volts: Float[ndarray, "window channel time"],
        ids: list[int],
        sfreq: float,
        measured: float | None = 1.0,
    ) -> Float[ndarray, "window block pool query channel feature"]:
        import torch

        signal = self._units().shown(volts, measured, PER_VOLT)
        x = torch.from_numpy(signal).to(next(self.backbone_.parameters()).device)
        blocks = slice(self.first_block, self.last_block)
        with torch.inference_mode():
            return (
                self.backbone_.tokens(
                    x, ids, self.query, self.pool, self.step, sfreq, blocks=blocks
                )
                .cpu()
                .numpy()
            )

    def _filtered(
        self, volts: Float[ndarray, "window channel time"], sfreq: float
    ) -> Float[ndarray, "window channel time"]:
        from mne.filter import filter_data, notch_filter

        if self.highpass is not None or self.lowpass is not None:
            volts = filter_data(volts, sfreq, self.highpass, self.lowpass, verbose="ERROR")
        return (
            notch_filter(volts, sfreq, list(self.notch), verbose="ERROR")
            if len(self.notch)
            else volts
        )

    def _pooled(
        self, tokens: Float[ndarray, "window block pool query channel feature"]
    ) -> Float[ndarray, "window block pool query channel feature"]:
        return tokens.mean(axis=2, keepdims=True) if self.over_time == "mean" else tokens


def _backbone(model: SSMDP | EEGDM | str | Path) -> SSMDP:
    """Return a backbone of this estimator's own, which may be moved to another device."""
    import copy

    from eegdm.checkpoints.load import load_backbone

    unshared = model if isinstance(model, str | Path) else copy.deepcopy(model)
    return load_backbone(unshared).eval()


def _refuse_bad_windows(
    values: Float[ndarray, "window channel time"],
) -> Float[ndarray, "window channel time"]:
    if values.ndim != 3 or not values.size:
        raise UserError(
            f"X has shape {values.shape}; windows are (window, channel, time), at least one"
        )
    if not np.isfinite(values).all():
        window, channel, _ = np.argwhere(~np.isfinite(values))[0]
        raise UserError(
            f"X has values that are missing or infinite, first in window {window}, channel"
            f" {channel}; leave such windows out"
        )
    return values


def _refuse_not_eeg(cut: _Cut, unit: str) -> None:
    # The interquartile range of a normal distribution is 1.349 standard deviations.
    low, high = np.percentile(cut.volts, (25, 75), axis=(0, 2))
    try:
        refuse_implausible((high - low) / 1.349 * 1e6, cut.ch_names)
    except UserError as error:
        raise UserError(f"X, taken as {unit}: {error}; unit= says in what X is") from error


def _derivations(cut: _Cut, channels: str) -> list[Derivation]:
    if channels == "montage":
        return _derivable(cut)
    names = read_names(cut.ch_names, cut.intracranial)
    plan = [placed.derivation for placed in match_to_montage(names, TCP)]
    if unknown := {ascii(name)[1:-1] for name in cut.ch_names} - {d.name for d in plan}:
        raise UserError(
            f"channels {', '.join(sorted(unknown))}: their names give no place on the head; rename"
            " them to electrodes of the 10-05 system (C3) or pairs of them (C3-CZ), or leave"
            f" them out{names.refusal()}"
        )
    return plan


def _derivable(cut: _Cut) -> list[Derivation]:
    """What can be derived of the 22; a warning says which channels of the windows are not used
    because their names mislead.
    """
    row = {name: index for index, name in enumerate(cut.ch_names)}
    names, notes = settle(
        read_names(cut.ch_names, cut.intracranial),
        lambda channels: np.stack([cut.volts[:, row[name]].ravel() for name in channels]),
    )
    for note in notes:
        warnings.warn(note, stacklevel=4)
    return derive(names, missing="drop")


def _derived(cut: _Cut, plan: list[Derivation]) -> Float[ndarray, "window channel time"]:
    row = {name: index for index, name in enumerate(cut.ch_names)}
    # `difference` takes rows of the first axis.
    by_channel = np.moveaxis(cut.volts, 1, 0)
    terms = [[None if name is None else row[name] for name in (d.plus, d.minus)] for d in plan]
    return np.stack([difference(by_channel, *pair) for pair in terms], axis=1)


def _device(name: str) -> str:
    import torch

    if name != "auto":
        return name
    return (
        "cuda"
        if torch.cuda.is_available()
        else "mps"
        if torch.backends.mps.is_available()
        else "cpu"
    )
