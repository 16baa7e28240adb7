"""EEG that a backbone makes up: windows of single channels, drawn from noise by the reverse
diffusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eegdm.artifacts import atomic_path, make_folder, refuse_long_names, storage_faults
from eegdm.data.channels import PER_VOLT
from eegdm.data.montage import CHANNEL_ID, TCP, electrodes_of
from eegdm.data.signal import expand
from eegdm.errors import UserError
from eegdm.inference.preparation import signal_settings
from eegdm.processes import pick_device

if TYPE_CHECKING:
    import mne
    from matplotlib.figure import Figure

    from eegdm.models.backbone import SSMDP
    from eegdm.models.eegdm import EEGDM

ROWS_AT_ONCE = 64
WINDOW_S = 5.0
_DRAWN = 3  # windows in the picture


class Generated(NamedTuple):
    """Windows that a model made up; those of different channels know nothing of each other."""

    signal: Float[ndarray, "window channel time"]  # V
    ch_names: list[str]
    sfreq: float


def generate(
    model: SSMDP | EEGDM | str | Path,
    channels: Sequence[str] | None = None,
    n: int = 1,
    *,
    sampler: str = "ddpm",
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Generated:
    """Draw n windows of 5 s for each channel, in volts.

    A window depends on the model, its channel, its number and the seed alone, not on how many are
    drawn beside it.

    Args:
        model: a backbone or a classifier, or its folder, checkpoint or hub id.
        channels: names of `TCP`; all that the backbone knows by default.
        sampler: "ddpm", "ddim" or "dpmsolver++".
        steps: how many of the diffusion steps are taken; all by default.

    Raises:
        UserError: an unknown channel or sampler, or a number out of range.
    """
    import torch

    from eegdm.models.diffusion import sample_with
    from eegdm.models.pooling import SFREQ

    backbone, schedule, signal = _parts(model)
    names = list(channels or TCP[: backbone.config["n_channel_ids"]])
    for name in names:
        electrodes_of(name)
    if n < 1 or not 0 <= seed < 2**31:
        raise UserError(f"n={n}, seed={seed}: at least 1 window, and a seed of 0..{2**31 - 1}")
    where = pick_device(device)
    backbone = backbone.to(where).eval()
    rows = [(number, CHANNEL_ID[name]) for number in range(n) for name in names]
    drawn = []
    for first in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[first : first + ROWS_AT_ONCE]
        random = [torch.Generator().manual_seed(_row_seed(seed, *row)) for row in some]
        start = torch.stack(
            [torch.randn(1, round(WINDOW_S * SFREQ), generator=g) for g in random]
        ).to(where)
        ids = torch.tensor([channel for _, channel in some], device=where)
        scheduler = schedule.sampler(
            sampler, steps or schedule.n_steps
        )  # it counts its steps, so each batch gets its own
        drawn.append(
            sample_with(
                backbone, scheduler, ids, start, random if sampler == "ddpm" else None, SFREQ
            )
            .cpu()
            .numpy()
        )
    companded = np.concatenate(drawn).reshape(n, len(names), -1)
    return Generated(
        (expand(companded, signal.mu) if signal.mu else companded) / PER_VOLT, names, SFREQ
    )


def _parts(model: Any) -> tuple[SSMDP, Any, Any]:
    """The backbone, its noise schedule, and how its signals were treated."""
    from eegdm.checkpoints.load import load_backbone
    from eegdm.models.diffusion import NoiseSchedule

    backbone = load_backbone(model)
    told = {"schedule": "kind"}
    noise = {told.get(key, key): value for key, value in backbone.info.get("diffusion", {}).items()}
    try:
        schedule = NoiseSchedule(**noise)
    except TypeError as error:
        raise UserError(
            "the model's config.json describes its diffusion in words that this version does not"
            f" know ({error})"
        ) from error
    return backbone, schedule, signal_settings(dict(backbone.info.get("signal", {})))


def _row_seed(seed: int, number: int, channel: int) -> int:
    state = np.random.SeedSequence((seed, number, channel)).generate_state(1, np.uint64)
    return int(state[0]) >> 1


# ------------------------------------------------------------------------------------------ files


def as_raw(generated: Generated) -> mne.io.RawArray:
    """Return the windows one after another as a recording, each annotated with its number."""
    import mne

    n, n_channels, n_times = generated.signal.shape
    info = mne.create_info(generated.ch_names, generated.sfreq, "eeg")
    raw = mne.io.RawArray(
        generated.signal.transpose(1, 0, 2).reshape(n_channels, -1), info, verbose="ERROR"
    )
    length = n_times / generated.sfreq
    return raw.set_annotations(
        mne.Annotations(np.arange(n) * length, length, [f"generated {k}" for k in range(n)])
    )


def generate_file(
    out: Path,
    model: SSMDP | EEGDM | str | Path,
    channels: Sequence[str] | None = None,
    n: int = 1,
    **options: Any,
) -> list[Path]:
    """Write the windows of :func:`generate` as FIF or EDF, by the suffix of ``out``, and a picture
    of the first ones beside them; return both files.

    Raises:
        UserError: ``out`` has another suffix or can't be written, found before any window is drawn;
            or what :func:`generate` raises.
    """
    if out.suffix not in (".fif", ".edf"):
        raise UserError(f"{out}: generated EEG is written as .fif or .edf")
    picture = out.with_suffix(".png")
    with storage_faults(out.parent, "--out"):
        if out.is_dir():
            raise UserError(f"{out}: is a folder; name a file with --out")
        make_folder(out.parent, "--out")
        refuse_long_names([out, picture], "choose a shorter one with --out")
        with atomic_path(out) as signals, atomic_path(picture) as drawn:
            signals.touch()  # a folder that can't be written is found now
            generated = generate(model, channels, n, **options)
            _write_signals(signals, generated)
            draw(generated).savefig(drawn, dpi=140)
    return [out, picture]


def _write_signals(path: Path, generated: Generated) -> None:
    import mne

    raw = as_raw(generated)
    if path.suffix == ".fif":
        raw.save(path, overwrite=True, verbose="ERROR")
    else:
        mne.export.export_raw(path, raw, fmt="edf", overwrite=True, verbose="ERROR")


def draw(generated: Generated) -> Figure:
    """Draw the first windows side by side, at one scale, in µV, negative up."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from eegdm.report.charts import STYLE
    from eegdm.report.traces import draw_scale_bar, draw_traces, scale_uv

    shown = 1e6 * generated.signal[:_DRAWN]
    scale = scale_uv(shown)
    with rc_context(STYLE):
        figure = Figure(figsize=(1.4 + 4.2 * len(shown), 1.2 + 0.27 * len(generated.ch_names)))
        for number, (axes, window) in enumerate(
            zip(figure.subplots(1, len(shown), sharey=True, squeeze=False)[0], shown, strict=True)
        ):
            draw_traces(axes, window, generated.ch_names, generated.sfreq, scale)
            axes.set_title(f"generated {number}")
            axes.set_xlabel("seconds")
        draw_scale_bar(axes, scale)
    return figure
