"""distill: recordings + a teacher -> a smaller backbone whose tokens predict the teacher's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import lightning as L
import pandas as pd

from eegdm import artifacts
from eegdm.config import Config
from eegdm.console import say
from eegdm.data.batches import ChannelBatch, SingleChannels
from eegdm.data.recordings import Recordings
from eegdm.distillation import Student, TokenModule
from eegdm.effects import finished_line
from eegdm.errors import UserError
from eegdm.layout import content_config, destination
from eegdm.models.backbone import SSMDP
from eegdm.models.eegdm import EEGDM, backbone_of
from eegdm.models.latents import TokenSpec
from eegdm.models.pretrained import TEACHER
from eegdm.opening import Inputs, make_backbone, open_recordings, resolve, token_spec
from eegdm.pretraining import fit_backbone, thin, views, write_backbone
from eegdm.processes import own_random_state
from eegdm.training import (
    forget_checkpoints,
    make_trainer,
    training_folder,
)

STANDARDISING_ROWS = 1024
"""Single-channel windows that the means and spreads of tokens are found from."""


@own_random_state()
def run(config: Config) -> Path:
    """Write ``backbone/``: config.json, model.safetensors (EMA weights), curves.csv.

    Raises:
        UserError: no recordings or no teacher, a student that is not smaller, or the folder holds
            other work.
    """
    # Inputs: recordings and the teacher, and the settings they were made with.
    config, inputs = resolve(config, "distill")
    teacher, spec = _teacher_and_tokens(config, inputs)
    folder = destination(config, "backbone", inputs.fingerprints)
    if artifacts.is_finished(folder):
        forget_checkpoints(folder)
        say(finished_line(config, "distill", folder))
        return folder
    # Data: windows of single channels, whatever their labels.
    recordings = open_recordings(config, inputs)
    recordings.require_channel_ids()
    train, val = views(config, recordings, "distill")
    with training_folder(
        folder, "backbone", content_config(config, "backbone"), inputs.fingerprints
    ):
        say(
            f"distill: {len(train)} single-channel windows to learn from, {len(val)} to validate"
            f" -> {folder}"
        )
        # Model: a backbone of random weights, and the maps to its teacher.
        L.seed_everything(config.run.seed, verbose=False)
        module = _module(config, teacher, spec, recordings)
        module.fit_logs(_spread_evenly(recordings, train))
        # Training: the same global batches for any number of processes.
        trainer = make_trainer(
            config, folder, config.pretrain.epochs, config.pretrain.grad_clip, []
        )
        tested = SingleChannels(recordings, val) if len(val) else None
        learned = SingleChannels(recordings, train)
        fit_backbone(config, trainer, module, learned, tested, config.run.seed)
        # Results: the averaged weights of the student, without the maps.
        if trainer.is_global_zero:
            student = module.ema.ema_model.backbone.float().eval()
            info = {TEACHER: inputs.fingerprints["teacher"]}
            write_backbone(folder, config, student, recordings, train, info)
            say(f"distill: wrote {folder}")
    return folder


def _teacher_and_tokens(config: Config, inputs: Inputs) -> tuple[SSMDP, TokenSpec]:
    """The teacher's backbone, and which of its tokens are learned: those that it classifies, if it
    is a classifier.
    """
    assert inputs.teacher is not None
    spec = token_spec(config, blocks=False)
    if isinstance(inputs.teacher, EEGDM):
        own = inputs.teacher.spec
        spec = replace(spec, first_block=own.first_block, last_block=own.last_block)
    if set(spec.pool) != {"std"} or spec.forward == "noisy":
        raise UserError(
            f"distill: learns the logs of tokens, which have to be standard deviations without"
            f" noise, not latents.pool={list(spec.pool)} with latents.forward={spec.forward}"
        )
    backbone = backbone_of(inputs.teacher)
    n_blocks = len(backbone.chosen_blocks(spec.blocks))
    if config.backbone.n_blocks > n_blocks:
        raise UserError(
            f"backbone.n_blocks={config.backbone.n_blocks}: the teacher has {n_blocks} blocks to"
            " learn from; give the student as many or fewer"
        )
    return backbone, spec


def _module(config: Config, teacher: SSMDP, spec: TokenSpec, recordings: Recordings) -> TokenModule:
    own = replace(spec, first_block=0, last_block=None)
    n_blocks = len(teacher.chosen_blocks(spec.blocks))
    student = Student(make_backbone(config), own, n_blocks, teacher.config["d_model"])
    return TokenModule(student, teacher, spec, config.pretrain, recordings.sfreq)


def _spread_evenly(recordings: Recordings, train: pd.DataFrame) -> ChannelBatch:
    chosen = thin(train, STANDARDISING_ROWS)
    return SingleChannels(recordings, chosen)[[(0, i) for i in range(len(chosen))]]
