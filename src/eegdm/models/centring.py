"""Centring: tokens relative to what is usual for a person, so that what changes within a person
stays, and who the person is goes.

The log of a token minus its mean over a person's windows is the treatment of
:mod:`eegdm.evaluation.study`. Classifiers take tokens, so here these are divided by the exponential
of that mean, the reference: centred tokens are positive, 1 is usual, and a gain that multiplies a
channel's tokens cancels. Labels are not used.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from eegdm.errors import UserError

CENTRES = ("recording", "subject")
"""Over what a classifier's tokens are centred: each recording, or all recordings of a person."""
FLOOR = 1e-3
"""Of a channel's mean token in its block: with it, windows in which a channel is silent do not
decide on the reference."""
LEAST_REFERENCE = 1e-6
"""A channel that is always silent must not become NaN."""


def reference_of(
    pooled: Float[Tensor, "window block query channel feature"],
) -> Float[Tensor, "block query channel feature"]:
    """Return the geometric mean over the windows of a recording, which tokens are divided by.

    Args:
        pooled: tokens, averaged over the pools of each window; standard deviations.

    Raises:
        UserError: there is one window alone, which would be all that is usual.
    """
    if len(pooled) < 2:
        raise UserError(
            "is one window long; tokens are centred over two windows or more, so leave the"
            " recording out, or take a longer one of the same person"
        )
    level = pooled.mean(dim=(0, 4), keepdim=True)
    return (pooled + FLOOR * level).log().mean(dim=0).exp().clamp(min=LEAST_REFERENCE)


def joint_reference(
    references: Float[Tensor, "recording block query channel feature"],
    n_windows: Float[Tensor, "recording channel"],
) -> Float[Tensor, "block query channel feature"]:
    """Return the geometric mean over the windows of several recordings.

    Args:
        references: of each of them.
        n_windows: that each is the mean over; 0 where a recording lacks a channel. What no
            recording has is left as it is, divided by 1.
    """
    weight = n_windows[:, None, None, :, None]
    total = (references.log() * weight).sum(dim=0)
    return (total / weight.sum(dim=0).clamp(min=1)).exp()


def divided(
    tokens: Float[Tensor, "batch block pool query channel feature"],
    reference: Float[Tensor, "... block query channel feature"],
) -> Float[Tensor, "batch block pool query channel feature"]:
    """Return centred tokens.

    Args:
        tokens: of windows.
        reference: of all these windows, or of each of them.
    """
    return tokens / reference.unsqueeze(-4)
