"""Picture of surprise over a whole recording, as a matplotlib Figure."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.figure import Figure

from eegdm.console import clock
from eegdm.report.charts import STYLE, short

_COLUMNS = 1200  # of the map: more than its pixels show
_BRIGHTEST = 8.0  # surprise from which the map is saturated


@rc_context(STYLE)
def surprise_map(
    values: Float[np.ndarray, "second channel"], ch_names: list[str], duration_s: float
) -> Figure:
    """Surprise of every channel over time, as a map."""
    parts = np.array_split(values, min(len(values), _COLUMNS))
    columns = np.stack([part.max(axis=0) for part in parts])
    figure = Figure(figsize=(9.6, 1.4 + 0.22 * len(ch_names)))
    axes = figure.add_subplot()
    image = axes.imshow(
        columns.T,
        aspect="auto",
        cmap="Greys",
        vmin=1.0,
        vmax=_BRIGHTEST,
        interpolation="nearest",
        extent=(0.0, float(len(values)), len(ch_names) - 0.5, -0.5),
    )
    axes.set_xlim(0, duration_s)
    axes.set_yticks(range(len(ch_names)), [short(name) for name in ch_names], fontsize=9)
    axes.xaxis.set_major_formatter(lambda seconds, _: clock(seconds))
    axes.set_xlabel("time in the recording")
    figure.colorbar(image, ax=axes, label="surprise", extend="max")
    return figure
