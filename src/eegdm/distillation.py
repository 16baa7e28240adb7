"""Learning to predict a teacher's tokens: the student, the maps to its teacher, and their training.

A block of the student answers for its share of the teacher's blocks, in order: linear maps predict
the logs of their tokens, standardised, from the logs of its own. The maps are thrown away when the
training is finished.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from eegdm.config import PretrainConfig
from eegdm.data.batches import ChannelBatch
from eegdm.models.backbone import SSMDP
from eegdm.models.latents import TokenSpec, extract
from eegdm.training import BackboneModule

LEAST = 1e-4
"""Added to tokens before their log is taken: activities lie within -1..1, and a channel that is
always silent has none."""


def logs_of(
    backbone: SSMDP, batch: ChannelBatch, spec: TokenSpec, sfreq: float
) -> Float[Tensor, "row block pool query feature"]:
    """Return the logs of the tokens of single channels, under the caller's grad mode."""
    # Channels do not meet in the backbone: a batch of rows is one window of as many channels
    rows = batch.signal.transpose(0, 1)
    tokens = extract(backbone, rows, batch.channel, spec, sfreq)
    return (tokens[0] + LEAST).log().permute(3, 0, 1, 2, 4)


class Standardised(nn.Module):
    """Subtracts the mean of each feature and divides by its spread, both fitted once."""

    mean: Tensor
    spread: Tensor

    def __init__(self, n_blocks: int, n_queries: int, n_features: int) -> None:
        super().__init__()
        shape = (n_blocks, 1, n_queries, n_features)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("spread", torch.ones(shape))

    def fit(self, values: Float[Tensor, "row block pool query feature"]) -> None:
        """Take mean and spread over rows and pools."""
        self.mean = values.mean(dim=(0, 2))[:, None]
        # A feature that never changes has no spread to divide by
        self.spread = values.std(dim=(0, 2), correction=0)[:, None].clamp(min=1e-6)

    def forward(
        self, values: Float[Tensor, "row block pool query feature"]
    ) -> Float[Tensor, "row block pool query feature"]:
        return (values - self.mean) / self.spread


class Student(nn.Module):
    """A backbone and the maps from its tokens to its teacher's.

    Args:
        backbone: the student.
        spec: how tokens are read; of the student all blocks.
        n_blocks: of the teacher, as many as the student has or more.
        width: of the teacher.
    """

    def __init__(self, backbone: SSMDP, spec: TokenSpec, n_blocks: int, width: int) -> None:
        super().__init__()
        own, own_width = backbone.config["n_blocks"], backbone.config["d_model"]
        self.backbone, self.spec, self.width = backbone, spec, width
        # What leads to the velocity has no part in tokens; processes would wait for its gradients
        for module in (backbone.head, *(block.skip for block in backbone.blocks)):
            cast("nn.Module", module).requires_grad_(False)
        shares = torch.arange(n_blocks).tensor_split(own)
        self.logs = Standardised(own, len(spec.query), own_width)
        self.maps = nn.ModuleList(nn.Linear(own_width, width * len(share)) for share in shares)

    def fit_logs(self, batch: ChannelBatch, sfreq: float) -> None:
        """Fit what its logs are standardised by."""
        self.logs.fit(logs_of(self.backbone, batch, self.spec, sfreq))

    def forward(
        self, batch: ChannelBatch, sfreq: float
    ) -> Float[Tensor, "row block pool query feature"]:
        """Return what the maps predict of all blocks of the teacher."""
        logs = self.logs(logs_of(self.backbone, batch, self.spec, sfreq))
        predicted = [
            to_share(own).unflatten(-1, (-1, self.width))
            for to_share, own in zip(self.maps, logs.unbind(1), strict=True)
        ]
        return torch.cat(predicted, dim=-2).permute(0, 3, 1, 2, 4)


class TokenModule(BackboneModule):
    """Learning to predict the tokens that a teacher makes of single channels.

    The loss is the mean squared error of standardised logs: 1 for who knows their means alone.

    Args:
        student: what learns.
        teacher: what it learns from; frozen.
        spec: how the teacher's tokens are read.
        config: settings of the training.
        sfreq: of the signals, Hz.
    """

    def __init__(
        self,
        student: Student,
        teacher: SSMDP,
        spec: TokenSpec,
        config: PretrainConfig,
        sfreq: float,
    ) -> None:
        super().__init__(student, config)
        self.teacher = teacher.requires_grad_(False).eval()
        self.spec, self.sfreq = spec, sfreq
        n_blocks = len(teacher.chosen_blocks(spec.blocks))
        self.logs = Standardised(n_blocks, len(spec.query), teacher.config["d_model"])

    @torch.no_grad()
    def fit_logs(self, batch: ChannelBatch) -> None:
        """Fit what logs are standardised by, of the teacher and of the untrained student."""
        self.logs.fit(self._logs_of_teacher(batch))
        # The average too: it is a copy that was made before, and averages only what is trained
        for student in (self.model, self.ema.ema_model):
            student.fit_logs(batch, self.sfreq)  # type: ignore[operator]

    def loss(self, model: Callable[..., Tensor], batch: ChannelBatch) -> Tensor:
        """Mean squared error of the standardised logs."""
        with torch.no_grad():
            wanted = self.logs(self._logs_of_teacher(batch))
        return F.mse_loss(model(batch, self.sfreq), wanted)

    def _logs_of_teacher(
        self, batch: ChannelBatch
    ) -> Float[Tensor, "row block pool query feature"]:
        return logs_of(self.teacher, batch, self.spec, self.sfreq)
