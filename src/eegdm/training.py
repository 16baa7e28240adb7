"""What both trainings share: parameter groups, the Lightning modules, checkpoints, curves, and the
trainer.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import os
import shutil
import time
import warnings
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from ema_pytorch import EMA
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, RichProgressBar
from lightning.pytorch.plugins.io import CheckpointIO
from torch import Tensor, nn

from eegdm.artifacts import atomic_path, building
from eegdm.config import Config, EmaConfig, FinetuneConfig, PretrainConfig
from eegdm.console import say
from eegdm.data.batches import (
    DenoisingBatch,
    GlobalBatches,
    WindowBatch,
    batch_sampler_of,
    in_order,
)
from eegdm.errors import UserError, one_line
from eegdm.evaluation.headroom import HeadRoom
from eegdm.evaluation.metrics import scores
from eegdm.models.backbone import SSMDP
from eegdm.models.diffusion import NoiseSchedule
from eegdm.models.eegdm import EEGDM
from eegdm.models.latents import extract
from eegdm.processes import rank

CHECKPOINTS = "checkpoints"
CUBLAS = "CUBLAS_WORKSPACE_CONFIG"

# ------------------------------------------------------------------------------- parameter groups


def denoising_groups(
    model: nn.Module, weight_decay: float, ssm_lr: float | None = None
) -> list[dict[str, Any]]:
    """Group the backbone's parameters: A, B and dt of every SSM are never decayed, and may have a
    learning rate of their own.
    """
    kept = ("log_decay", "frequency", "log_dt", "B")
    groups: dict[bool, list[nn.Parameter]] = {False: [], True: []}
    for name, parameter in model.named_parameters():
        groups[".ssm." in name and name.rsplit(".", 1)[-1] in kept].append(parameter)
    return [
        {"params": groups[False], "weight_decay": weight_decay},
        {"params": groups[True], "weight_decay": 0.0} | ({} if ssm_lr is None else {"lr": ssm_lr}),
    ]


def fusion_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Group trainable parameters: fusion tokens, biases and all other 1-D parameters are not
    decayed (docs/deviations.md, item 15).
    """
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_kept = parameter.ndim == 1 or name.rsplit(".", 1)[-1] == "fusion_tokens"
            (kept if is_kept else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]


def moving_average(model: nn.Module, config: EmaConfig) -> EMA:
    """Return the moving average of a model's weights, with ema-pytorch's warm-up; call ``update()``
    after each optimizer step.
    """
    # Without the online model, which is saved already as the trained one
    return EMA(
        model,
        beta=config.decay,
        update_after_step=config.start,
        update_every=config.every,
        include_online_model=False,
    )


# ---------------------------------------------------------------------------------------- modules


class SharedBatches(L.LightningModule):
    """A module whose global batches are divided between processes; what it learns does not depend
    on their number.
    """

    def scale_to_global_batch(
        self, loss: Tensor, batches: GlobalBatches, batch: int
    ) -> tuple[Tensor, Tensor]:
        """Return this process's part of a loss, whose gradients DDP averages, and the loss of the
        global batch.

        Args:
            loss: mean over this process's share.
            batches: the sampler that divided the batch.
            batch: number of the batch in its epoch.
        """
        # Shares may differ by a sample; DDP averages over processes, not over samples
        part = loss * batches.weight(batch)
        return part, self.trainer.strategy.reduce(part.detach().clone(), reduce_op="mean")  # type: ignore[return-value]

    def adamw(self, groups: list[dict[str, Any]], **settings: Any) -> torch.optim.Optimizer:
        """Return AdamW that updates all parameters in one pass; under autocast Lightning does not
        clip gradients for that.
        """
        return torch.optim.AdamW(
            groups, fused=not self.trainer.precision.endswith("mixed"), **settings
        )


class BackboneModule(SharedBatches, ABC):
    """A training on single channels, whose kind its loss decides.

    Args:
        model: what learns.
        config: settings of the training.
    """

    def __init__(self, model: nn.Module, config: PretrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        # A part of the module, so that checkpoints hold the average too
        self.ema = moving_average(model, config.ema)

    @abstractmethod
    def loss(self, model: Callable[..., Tensor], batch: Any) -> Tensor:
        """Mean loss of a batch."""

    def training_step(self, batch: Any, number: int) -> Tensor:
        batches = batch_sampler_of(self.trainer.train_dataloader)
        part, loss = self.scale_to_global_batch(self.loss(self.model, batch), batches, number)
        self.log(
            "train_loss",
            finite(loss),
            on_step=False,
            on_epoch=True,
            prog_bar=True,
            batch_size=batches.size(number),
        )
        return part

    def validation_step(self, batch: Any, number: int) -> Tensor:
        batches = batch_sampler_of(self.trainer.val_dataloaders)
        _, loss = self.scale_to_global_batch(self.loss(self.ema.ema_model, batch), batches, number)
        self.log("val_loss", loss, on_epoch=True, prog_bar=True, batch_size=batches.size(number))
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        # Here the optimizer has stepped; ema-pytorch itself counts which steps it averages
        self.ema.update()

    def configure_optimizers(self) -> Any:
        c = self.config
        groups = denoising_groups(self.model, c.weight_decay, c.ssm_lr)
        optimizer = self.adamw(groups, lr=c.lr)
        if c.last_lr is None:
            return optimizer
        rest, n_steps = c.last_lr / c.lr, int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: rest + (1 - rest) * (1 + math.cos(math.pi * step / n_steps)) / 2
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class DenoisingModule(BackboneModule):
    """Learning to predict the velocity (v-prediction of Salimans and Ho 2022)."""

    def __init__(
        self,
        model: SSMDP,
        schedule: NoiseSchedule,
        config: PretrainConfig,
        sfreq: float,
        room: HeadRoom | None = None,
    ) -> None:
        super().__init__(model, config)
        self.schedule, self.sfreq, self.room = schedule, sfreq, room

    def loss(self, model: Callable[..., Tensor], batch: DenoisingBatch) -> Tensor:
        """Mean squared error of the velocity."""
        noised = self.schedule.add_noise(batch.signal, batch.noise, batch.step)
        target = self.schedule.velocity(batch.signal, batch.noise, batch.step)
        return F.mse_loss(model(noised, batch.step, batch.channel, sfreq=self.sfreq), target)

    def validation_step(self, batch: DenoisingBatch, number: int) -> Tensor:
        loss = super().validation_step(batch, number)
        if self.room is not None:  # the share of the mean loss is the mean of the shares
            size = batch_sampler_of(self.trainer.val_dataloaders).size(number)
            self.log("val_headroom", self.room.closed(loss), on_epoch=True, batch_size=size)
        return loss


class FusionModule(SharedBatches):
    """Learning to classify windows from tokens.

    Args:
        model: backbone and fusion transformer; the backbone is frozen unless
            ``config.train_backbone``.
        config: settings of the training.
        total_steps: optimizer steps of the whole OneCycle schedule.
        cached: whether batches hold tokens or signals.
        val_labels: class of each validation sample.
        val_window: row of the validation dataset that holds the sample's window, so that shared
            windows are computed once.
    """

    def __init__(
        self,
        model: EEGDM,
        config: FinetuneConfig,
        total_steps: int,
        cached: bool,
        val_labels: np.ndarray,
        val_window: np.ndarray,
    ) -> None:
        super().__init__()
        self.model, self.config, self.total_steps, self.cached = model, config, total_steps, cached
        self.val_labels, self.val_window = np.array(val_labels), val_window
        self.monitored = (
            ("balanced_accuracy", "auc_pr", "auroc")
            if config.loss == "binary"
            else ("kappa", "balanced_accuracy", "weighted_f1")
        )
        model.backbone.requires_grad_(config.train_backbone)
        self.trained = model if config.train_backbone else model.fusion
        self.ema = moving_average(self.trained, config.ema)
        self.criterion = criterion(config)
        self._predictions: list[tuple[np.ndarray, np.ndarray]] = []

    def logits(self, batch: WindowBatch, averaged: bool = False) -> Tensor:
        """Logits (batch, class) by the online weights, or by their moving average."""
        trained = self.ema.ema_model if averaged else self.trained
        if self.config.train_backbone:
            return trained(
                batch.data, batch.mask, noise=batch.noise if batch.noise.numel() else None
            )
        return trained(self.tokens(batch), batch.mask)

    def tokens(self, batch: WindowBatch) -> Tensor:
        """Tokens of a batch as the classifier of tokens takes them."""
        tokens = batch.data if self.cached else tokens_of(self.model, batch)
        return self.model.centred(tokens, batch.reference if batch.reference.numel() else None)

    def training_step(self, batch: WindowBatch, number: int) -> Tensor:
        batches = batch_sampler_of(self.trainer.train_dataloader)
        part, loss = self.scale_to_global_batch(
            self.criterion(self.logits(batch), batch.label), batches, number
        )
        self.log(
            "train_loss",
            finite(loss),
            on_step=False,
            on_epoch=True,
            prog_bar=True,
            batch_size=batches.size(number),
        )
        return part

    def validation_step(self, batch: WindowBatch, number: int) -> None:
        # Weight 0: a process without a share of the last batch has a sample of another's, to keep
        # in step; it must not be scored twice
        if batch_sampler_of(self.trainer.val_dataloaders).weight(number) > 0:
            logits = self.logits(batch, averaged=True).float().cpu().numpy()
            self._predictions.append((batch.row.cpu().numpy(), logits))

    def on_validation_epoch_end(self) -> None:
        # Scores such as kappa are of the whole part: a mean over batches or processes is another
        # number. Every process computes them, since each decides on stopping
        logits = in_order(gather(self._predictions))[self.val_window]
        self._predictions.clear()
        result = scores(self.val_labels, logits)
        loss = self.criterion(
            torch.from_numpy(logits).to(self.device),
            torch.from_numpy(self.val_labels).to(self.device),
        )
        self.log("val_loss", loss)
        for name in self.monitored:
            value = result.get(name)
            # Lightning logs numbers alone: an undefined score is NaN
            shown = float("nan") if value is None else value
            self.log(f"val_{name}", shown, prog_bar=name == self.config.monitor)

    def on_train_batch_end(self, *_: Any) -> None:
        self.ema.update()

    def configure_optimizers(self) -> Any:
        c = self.config
        optimizer = self.adamw(
            fusion_groups(self.trained, c.weight_decay),
            lr=c.max_lr / c.div,
            betas=(c.betas[0], c.betas[1]),
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=c.max_lr,
            total_steps=self.total_steps,
            pct_start=c.pct_start,
            div_factor=c.div,
            final_div_factor=c.final_div,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def tokens_of(model: EEGDM, batch: WindowBatch) -> Tensor:
    """Tokens of a batch of signals by the frozen backbone."""
    with torch.no_grad():
        return extract(
            model.backbone,
            batch.data,
            model.channel_ids,
            model.spec,
            sfreq=model.sfreq,
            noise=batch.noise if batch.noise.numel() else None,
            compat=model.compat,
        )


def criterion(config: FinetuneConfig) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss of logits (batch, class) and labels (batch,): with class weights, the mean
    over the batch of per-sample losses.
    """
    if config.loss == "binary":
        weight = None if config.pos_weight is None else torch.tensor(config.pos_weight)
        return lambda logits, label: F.binary_cross_entropy_with_logits(
            logits[:, 0],
            label.to(logits.dtype),
            pos_weight=None if weight is None else weight.to(logits),
        )
    weights = None if config.class_weights is None else torch.tensor(config.class_weights)
    # torch's own mean divides by the sum of weights, so that a batch of rare classes would count as
    # much as one of frequent ones
    return lambda logits, label: F.cross_entropy(
        logits,
        label,
        weight=None if weights is None else weights.to(logits),
        label_smoothing=config.label_smoothing,
        reduction="none",
    ).mean()


def finite(loss: Tensor) -> Tensor:
    """Return the loss, or stop the training if it is not a number."""
    if not torch.isfinite(loss):
        raise UserError(
            f"the loss became {loss.item()}: training stopped, the checkpoint of the epoch before"
            " is kept. Lower the learning rate, or use run.precision=32-true"
        )
    return loss


def gather(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Join the (index, logits) pairs of all processes."""
    if not torch.distributed.is_initialized():
        return pairs
    everyone: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, pairs)
    return [pair for part in everyone for pair in part]


# ------------------------------------------------------------------------------------ the trainer


@contextmanager
def training_folder(
    path: Path, kind: str, config: dict[str, Any], inputs: dict[str, Any]
) -> Iterator[None]:
    """Hold the folder of a training: its first process does, see :func:`eegdm.artifacts.building`;
    the others write nothing.
    """
    if rank() > 0:
        yield
    else:
        with building(path, kind, config, inputs):
            yield


class AtomicCheckpoints(CheckpointIO):
    """Checkpoints of unfinished training: temp, fsync, rename; read without unpickling anything but
    tensors.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        # Through memory: torch's own writing would not say why it failed, such as a full disk
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with atomic_path(Path(path)) as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        try:
            with zipfile.ZipFile(path) as members:
                # torch does not compare the checksums that it writes
                if (damaged := members.testzip()) is not None:
                    raise ValueError(f"{damaged} is damaged")
            return torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for damaged files
            raise UserError(
                f"{path}: can't be read as a checkpoint ({type(error).__name__}:"
                f" {one_line(error)}); remove it and run the command again: the"
                " training then starts from the beginning"
            ) from error

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


class Curves(Callback):
    """Writes curves.csv, one row per epoch; its rows are part of the checkpoint, so that a resumed
    run has them all.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        values = {k: float(v) for k, v in trainer.callback_metrics.items()}
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.rows.append(
            {
                "epoch": trainer.current_epoch,
                "step": trainer.global_step,
                "lr": float(rate),
                **values,
            }
        )
        if trainer.is_global_zero:
            self.write()

    def write(self) -> None:
        """Write all rows so far."""
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        with atomic_path(self.path) as temporary, open(temporary, "w", newline="") as stream:
            writer = csv.DictWriter(stream, columns, restval="")
            writer.writeheader()
            writer.writerows(self.rows)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = list(state["rows"])


class TimeEstimate(Callback):
    """Says early how long a long pretraining will take, from the pace of its first batches.

    Args:
        words: what to say after the time, such as what would make the training unnecessary.
        clock: gives seconds.
    """

    FIRST, LAST = 5, 25  # batches: the first ones also load, allocate and tune
    WORTH_SAYING_S = 600.0

    def __init__(self, words: str, clock: Callable[[], float] = time.perf_counter) -> None:
        self.words, self.clock = words, clock
        self.n_seen, self.since = 0, 0.0

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.n_seen += 1
        if self.n_seen == self.FIRST:
            self.since = self.clock()
        if self.n_seen != self.LAST or not trainer.is_global_zero:
            return
        per_batch = (self.clock() - self.since) / (self.LAST - self.FIRST)
        epochs_left = cast("int", trainer.max_epochs) - trainer.current_epoch
        seconds = per_batch * (epochs_left * float(trainer.num_training_batches) - self.LAST)
        if seconds >= self.WORTH_SAYING_S:
            say(
                f"pretrain: about {seconds / 3600:.1f} h at the pace of the first batches, without"
                f" validations{self.words}"
            )


class ResumedOrder(Callback):
    """Sets the epoch of the training batches before a resumed run fetches any; Lightning does so
    after its workers have begun to.
    """

    def __init__(self, batches: GlobalBatches) -> None:
        self.batches = batches

    def on_load_checkpoint(
        self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # Lightning's own count, of its private layout: it has no public name for a resumed epoch
        self.batches.set_epoch(
            checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        )


class KeepBest(Callback):
    """Keeps the weights of the best epoch as best.ckpt: of the highest score and, among equals,
    of the lowest validation loss.

    What the best epoch was so far is read from :class:`Curves`, which a resumed run has.

    Args:
        score: name of the validation score; None chooses by the loss alone, where the score is
            undefined.
    """

    def __init__(self, score: str | None) -> None:
        self.score = score

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        (curves,) = (c for c in trainer.callbacks if isinstance(c, Curves))  # type: ignore[attr-defined]
        now = self._rank({k: float(v) for k, v in trainer.callback_metrics.items()})
        # Validation ends before the epoch gets its row: all rows are of earlier epochs
        if all(now > self._rank(row) for row in curves.rows):
            trainer.save_checkpoint(Path(trainer.default_root_dir) / CHECKPOINTS / "best.ckpt")

    def _rank(self, row: dict[str, Any]) -> tuple[float, float]:
        return 0.0 if self.score is None else row[self.score], -row["val_loss"]


class PatientStopping(EarlyStopping):
    """Early stopping whose patience counts from a given epoch on, as published.

    Args:
        monitor: name of the validation score; None stops by the validation loss.
    """

    def __init__(self, monitor: str | None, patience: int, first_epoch: int) -> None:
        mode = "min" if monitor is None else "max"
        super().__init__(monitor or "val_loss", mode=mode, patience=patience, check_finite=False)
        self.first_epoch = first_epoch

    def _run_early_stopping_check(self, trainer: L.Trainer) -> None:
        # Lightning's private hook: skipping the check is the only way not to count an epoch
        if trainer.current_epoch >= self.first_epoch:
            super()._run_early_stopping_check(trainer)


def make_trainer(
    config: Config,
    folder: Path,
    epochs: int,
    grad_clip: float,
    callbacks: Sequence[Callback],
    keep_best: KeepBest | None = None,
) -> L.Trainer:
    """Return a Lightning trainer that checkpoints every epoch into ``folder``/checkpoints and can
    continue from there.

    Args:
        keep_best: what keeps the best epoch as best.ckpt; None keeps the last one alone.
    """
    run = config.run
    where = folder / CHECKPOINTS
    saving: list[Callback] = [] if keep_best is None else [keep_best]
    saving.append(
        ModelCheckpoint(
            where,
            "last",
            save_top_k=1,
            every_n_epochs=1,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )
    )
    shown = [RichProgressBar(leave=True), Curves(folder / "curves.csv")]
    # Built inside: the trainer itself switches on deterministic algorithms and sets variables
    with _library_state():
        return L.Trainer(
            accelerator={"cuda": "gpu"}.get(run.device, run.device),
            devices=run.devices,
            num_nodes=run.nodes,
            precision=run.precision,  # type: ignore[arg-type]
            max_epochs=epochs,
            gradient_clip_val=grad_clip,
            # GlobalBatches divides batches: Lightning's sampler would pad, scoring samples twice
            use_distributed_sampler=False,
            # A check before training would keep untrained weights as those of the best epoch
            num_sanity_val_steps=0,
            deterministic="warn",
            logger=[_logger(name, folder, config) for name in run.loggers],
            callbacks=[*shown, *callbacks, *saving],
            plugins=[AtomicCheckpoints()],
            enable_model_summary=False,
            default_root_dir=folder,
        )


@contextmanager
def _library_state() -> Iterator[None]:
    """Set what a training wants of torch and Lightning for the whole process, and put back what was
    there: the next run, or the program that called us, has settings of its own.

    Lightning's advertisements are silenced, and those of its warnings that describe what is meant
    here.
    """
    logger = logging.getLogger("lightning.pytorch")
    level, n_threads = logger.level, torch.get_num_threads()
    variables = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", CUBLAS)}
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    try:
        with warnings.catch_warnings():
            logger.setLevel(logging.WARNING)
            # Warn only: a few operations on GPUs have no deterministic form, and must still run
            torch.use_deterministic_algorithms(True, warn_only=True)
            for meant in (
                "eval mode",
                "does not have many workers",
                "LeafSpec",
                "Total length of",
                "Checkpoint directory",
                "sync_dist",  # what is logged is of the global batch, or of all gathered logits
            ):
                warnings.filterwarnings("ignore", f".*{meant}")
            yield
    finally:
        logger.setLevel(level)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
        if torch.get_num_threads() != n_threads:
            torch.set_num_threads(n_threads)
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _logger(name: str, folder: Path, config: Config) -> Any:
    from lightning.pytorch.loggers import TensorBoardLogger

    logs = folder / "logs"
    try:
        if name == "tensorboard":
            return TensorBoardLogger(logs, name="", version="")
        return _wandb_logger(f"{config.corpus.name}-{config.recipe}-{config.run.seed}", logs)
    except ModuleNotFoundError as error:
        raise UserError(
            f"run.loggers={name}: {error}; install it by `pip install 'eegdm[{name}]'`"
        ) from error


def _wandb_logger(name: str, logs: Path) -> Any:
    """Begin a W&B run of this training's own; one that the process may have open is left alone."""
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    # Other processes log nothing; a run of theirs would stand empty beside the first one's
    if rank() > 0:
        return WandbLogger(project="eegdm", name=name, save_dir=logs)
    logs.mkdir(parents=True, exist_ok=True)
    try:
        run = wandb.init(project="eegdm", name=name, dir=logs, reinit="create_new")
    except wandb.Error as error:
        raise UserError(
            f"run.loggers=wandb: {' '.join(str(error).split())}; log in with `wandb login`, or set"
            f" WANDB_MODE=offline to keep the curves in {logs / 'wandb'}"
        ) from error
    # As Lightning does for runs that it begins itself: curves over steps, not over calls
    run.define_metric("*", step_metric="trainer/global_step")
    return WandbLogger(experiment=run, save_dir=logs)


def fit_module(
    trainer: L.Trainer, module: L.LightningModule, training: Any, validation: Any
) -> None:
    """Train from the last checkpoint of the folder, or from the start."""
    last = Path(trainer.default_root_dir) / CHECKPOINTS / "last.ckpt"
    trainer.callbacks.append(ResumedOrder(batch_sampler_of(training)))  # type: ignore[attr-defined]
    from lightning.pytorch.loggers import WandbLogger

    try:
        with _library_state():
            trainer.fit(
                module, training, validation, ckpt_path=str(last) if last.is_file() else None
            )
    finally:
        for logger in trainer.loggers:
            # Lightning closes its TensorBoard writer, but leaves a W&B run open for the next run
            if isinstance(logger, WandbLogger):
                logger.experiment.finish()


def forget_checkpoints(folder: Path) -> None:
    """Remove what only an unfinished training needs; also what a run that was killed while it did
    so has left.
    """
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def rank_and_world(trainer: L.Trainer) -> dict[str, int]:
    """Return this process's rank and the number of processes, for
    :func:`eegdm.data.batches.loader`.
    """
    return {"rank": trainer.global_rank, "world": trainer.world_size}
