"""Print the number of epochs that a pretraining has time for on this machine: the setting
pretrain.epochs.

    python examples/epochs_that_fit.py HOURS corpus=folder recipe=people root=runs device=cuda

Words are the settings of `eegdm pretrain`, which is to follow; recordings must be there. A typed
pretrain.epochs is the maximum.
"""

from __future__ import annotations

import sys

from eegdm.compose import compose
from eegdm.console import run_main
from eegdm.errors import UserError
from eegdm.experiments.costs import measure
from eegdm.opening import open_recordings, resolve
from eegdm.pretraining import views

SHARE = 0.6
"""Of the hours that the timed steps may fill: the optimizer, loading, and an evaluation afterwards
are not timed."""


def main() -> None:
    hours, *words = sys.argv[1:]
    config, inputs = resolve(compose(words), "pretrain")
    train, val = views(config, open_recordings(config, inputs))
    pace = measure(config)
    epoch_s = len(train) * pace.learn + len(val) * pace.read
    most = config.pretrain.epochs if "pretrain.epochs" in config.explicit else None
    print(f"pretrain.epochs={epochs_within(3600 * float(hours), epoch_s, most)}")


def epochs_within(seconds: float, epoch_s: float, most: int | None) -> int:
    """Return how many epochs of ``epoch_s`` seconds fit into a share of the time.

    Raises:
        UserError: not one.
    """
    found = int(SHARE * seconds / epoch_s)
    if found < 1:
        raise UserError(
            f"an epoch takes about {epoch_s / 3600:.2g} h on this machine, and {SHARE:.0%} of"
            f" {seconds / 3600:g} h are for training: give more hours, or fewer windows by"
            " pretrain.max_windows=N"
        )
    return found if most is None else min(found, most)


if __name__ == "__main__":
    run_main(main)
