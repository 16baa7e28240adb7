"""Print the filter that whitens the training windows of a pretraining: the setting signal.whiten.

    python examples/whitening_filter.py corpus=folder recipe=people source=DIR root=runs

Words are the settings of `eegdm pretrain`, which is to follow; recordings must be there. Each
window counts the same, however loud it is.
"""

from __future__ import annotations

import sys

import numpy as np
from jaxtyping import Float

from eegdm.compose import compose
from eegdm.config import with_settings
from eegdm.console import run_main
from eegdm.data.recordings import Recordings
from eegdm.data.whitening import whitening_filter
from eegdm.opening import open_recordings, resolve
from eegdm.pretraining import views

ORDER = 16


def main() -> None:
    config, inputs = resolve(compose(sys.argv[1:]), "pretrain")
    config = with_settings(config, {"signal.whiten": None})
    recordings = open_recordings(config, inputs)
    train, _ = views(config, recordings)
    keys = train[["recording", "start_sample", "n_times", "row"]].itertuples(index=False)
    found = whitening_filter(mean_autocorrelation(recordings, keys))
    print(f"signal.whiten=[{','.join(f'{b:.5f}' for b in found)}]")


def mean_autocorrelation(recordings: Recordings, keys) -> Float[np.ndarray, " lag"]:  # noqa: ANN001
    """Return the mean over windows of the autocorrelation at lags 0 .. ORDER, 1 at lag 0 (biased,
    so that a filter can always be found).
    """
    total, n = np.zeros(ORDER + 1), 0
    for recording, start, n_times, row in keys:
        (x,) = recordings.window(recording, start, n_times, row).astype(np.float64)
        products = [x[: n_times - lag] @ x[lag:] for lag in range(ORDER + 1)]
        if products[0] > 0:
            total, n = total + np.array(products) / products[0], n + 1
    return total / n


if __name__ == "__main__":
    run_main(main)
