"""pretrain: recordings -> a backbone that has learned to denoise single channels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback

from eegdm import artifacts
from eegdm.config import Config
from eegdm.console import say
from eegdm.data.batches import Denoising, DenoisingBatch, generator
from eegdm.data.montage import TCP
from eegdm.data.recordings import Recordings
from eegdm.effects import finished_line
from eegdm.errors import UserError
from eegdm.evaluation.headroom import HeadRoom, head_room
from eegdm.layout import content_config, destination
from eegdm.models.backbone import SSMDP
from eegdm.models.diffusion import NoiseSchedule, sample
from eegdm.opening import make_backbone, make_schedule, open_recordings, resolve
from eegdm.pretraining import fit_backbone, thin, views, write_backbone
from eegdm.processes import own_random_state
from eegdm.training import (
    DenoisingModule,
    TimeEstimate,
    forget_checkpoints,
    make_trainer,
    training_folder,
)

# Single-channel windows that the mean spectra are found from: enough for 22 channels
MEAN_SPECTRUM_WINDOWS = 5000
WITHOUT_PRETRAINING = "backbone=mini or backbone=random on cache and finetune needs no pretraining"
# The "epoch" whose steps and noise every validation uses, so that losses can be compared
VALIDATION_EPOCH = 2**31


@own_random_state()
def run(config: Config) -> Path:
    """Write ``backbone/``: config.json, model.safetensors (EMA weights), curves.csv, samples.npy.

    Raises:
        UserError: no recordings, no windows, or the folder holds other work.
    """
    if config.run.backbone is not None:
        raise UserError(
            f"backbone={config.run.backbone}: pretrain starts from random weights; leave it out, or"
            " leave out pretrain and give backbone= to cache and finetune"
        )
    # Inputs: recordings, and the settings they were made with.
    config, inputs = resolve(config, "pretrain")
    folder = destination(config, "backbone", inputs.fingerprints)
    if artifacts.is_finished(folder):
        forget_checkpoints(folder)
        say(finished_line(config, "pretrain", folder))
        return folder
    # Data: windows of single channels, whatever their labels.
    recordings = open_recordings(config, inputs)
    recordings.require_channel_ids()
    train, val = views(config, recordings)
    with training_folder(
        folder, "backbone", content_config(config, "backbone"), inputs.fingerprints
    ):
        say(
            f"pretrain: {len(train)} single-channel windows to learn from, {len(val)} to validate"
            f" -> {folder}"
        )
        # Model: the backbone and the noise that it learns to take away.
        L.seed_everything(config.run.seed, verbose=False)
        model, schedule = make_backbone(config), make_schedule(config)
        measured = _head_room(config, recordings, train, val, schedule) if len(val) else None
        module = DenoisingModule(model, schedule, config.pretrain, recordings.sfreq, measured)
        drawing = [_Sampling(config, folder, recordings.sfreq)] if config.pretrain.samples else []
        # Training: the same global batches for any number of processes.
        estimate = TimeEstimate(f"{_each_fold(config)}; {WITHOUT_PRETRAINING}")
        trainer = make_trainer(
            config, folder, config.pretrain.epochs, config.pretrain.grad_clip, [*drawing, estimate]
        )
        n_steps, seed = schedule.n_steps, config.run.seed
        # The published code keeps the order of files (docs/deviations.md, item 2)
        order = None if config.run.compat == "published" else seed
        learned = Denoising(recordings, train, n_steps, seed)
        tested = _Validation(recordings, val, n_steps, seed) if len(val) else None
        fit_backbone(config, trainer, module, learned, tested, order)
        # Results: the averaged weights, and windows that they generate.
        if trainer.is_global_zero:
            _write_trained(folder, config, module.ema.ema_model, schedule, recordings, train)
    return folder


class _Validation(Denoising):
    """Denoising with the same steps and noise in every epoch."""

    def __getitem__(self, keys: list[tuple[int, int]]):  # noqa: ANN204 - as the base class
        return super().__getitem__([(VALIDATION_EPOCH, i) for _, i in keys])


class _Sampling(Callback):
    """Generates windows with the averaged weights after validations, into samples/."""

    def __init__(self, config: Config, folder: Path, sfreq: float) -> None:
        self.config, self.folder, self.sfreq = config, folder, sfreq

    def on_validation_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if (
            trainer.is_global_zero
            and (trainer.current_epoch + 1) % self.config.pretrain.samples_every == 0
        ):
            assert isinstance(module, DenoisingModule)
            drawn = draw_samples(module.ema.ema_model, module.schedule, self.config, self.sfreq)  # type: ignore[arg-type]
            artifacts.write_array(
                self.folder / "samples" / f"epoch={trainer.current_epoch:04d}.npy", drawn
            )


def _each_fold(config: Config) -> str:
    w = config.windows
    return f", for each of {w.n_folds} folds" if w.split == "kfold" else ""


def _head_room(
    config: Config,
    recordings: Recordings,
    train: pd.DataFrame,
    val: pd.DataFrame,
    schedule: NoiseSchedule,
) -> HeadRoom:
    """Return between which losses of linear denoisers the validation loss is to fall."""
    size, seed, n_steps = config.pretrain.batch_size, config.run.seed, schedule.n_steps
    learned = Denoising(recordings, thin(train, MEAN_SPECTRUM_WINDOWS), n_steps, seed)
    tested = _Validation(recordings, val, n_steps, seed)
    found = head_room(_in_order(learned, size), _in_order(tested, size), schedule, recordings.sfreq)
    say(
        f"pretrain: validation loss of linear denoisers: {found.mean_spectrum:.4f} with the mean"
        f" spectrum, {found.own_spectrum:.4f} with each window's own"
    )
    return found


def _in_order(dataset: Denoising, size: int) -> Iterator[DenoisingBatch]:
    for first in range(0, len(dataset), size):
        yield dataset[[(0, i) for i in range(first, min(first + size, len(dataset)))]]


def _write_trained(
    folder: Path,
    config: Config,
    model: SSMDP,
    schedule: NoiseSchedule,
    recordings: Recordings,
    train: pd.DataFrame,
) -> None:
    model.float().eval()  # as it is saved, whatever precision it learned in
    if config.pretrain.samples:
        artifacts.write_array(
            folder / "samples.npy", draw_samples(model, schedule, config, recordings.sfreq)
        )
    write_backbone(folder, config, model, recordings, train)
    say(f"pretrain: wrote {folder}")


@torch.inference_mode()
def draw_samples(model: SSMDP, schedule: NoiseSchedule, config: Config, sfreq: float) -> np.ndarray:
    """Generate windows by the reverse process: float32 (channel id, sample, time), in model
    units.
    """
    n, n_times = config.pretrain.samples, round(config.windows.duration_s * sfreq)
    weight = next(model.parameters())
    channel = torch.arange(len(TCP), device=weight.device).repeat_interleave(n)
    # Drawn by NumPy on the CPU: every device gets the same noise
    noise = torch.from_numpy(
        generator("samples", config.run.seed).standard_normal(
            (schedule.n_steps, len(channel), 1, n_times), dtype=np.float32
        )
    )
    # The published code stops before the last step (docs/deviations.md, item 13)
    last_step = 1 if config.run.compat == "published" else 0
    drawn = sample(model, schedule, channel, noise.to(weight), last_step=last_step, sfreq=sfreq)
    return drawn.reshape(len(TCP), n, n_times).float().cpu().numpy()
