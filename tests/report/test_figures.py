"""What the pictures show: order and polarity of channels, the stretch that is chosen; odd inputs
still draw.
"""

import numpy as np
import pandas as pd
import pytest

from eegdm.data.montage import CHBMIT, TCP
from eegdm.evaluation import metrics
from eegdm.report import charts, traces
from eegdm.report.content import Example, Samples


def _events(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["onset_s", "duration_s", "label"]).assign(probability=0.9)


def _draw(figure) -> None:
    figure.draw_without_rendering()


def test_channels_are_grouped_in_chains():
    assert [len(group) for _, group in traces.chains(TCP)] == [4, 4, 3, 3, 4, 4]
    assert [len(group) for _, group in traces.chains(CHBMIT)] == [4, 4, 4, 4]
    assert traces.chains(["EOG", "ECG", "F7-T3"]) == [("", [0, 1]), ("left temporal", [2])]


def test_traces_run_from_top_to_bottom_with_negative_up():
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    signal = np.zeros((4, 200))
    signal[2, 100] = -50.0
    rows = traces.draw_traces(axes, signal, TCP[2:6], 200.0, scale=100)
    assert rows == sorted(rows, reverse=True)
    assert rows[1] - rows[2] == pytest.approx(1.0 + traces._CHAIN_GAP)  # a new chain begins
    drawn = axes.lines[2].get_ydata()
    assert drawn[100] == pytest.approx(rows[2] + 0.5) and drawn[0] == pytest.approx(rows[2])
    assert list(axes.lines[2].get_xdata()[[0, 100]]) == [0.0, 0.5]


@pytest.mark.parametrize(("amplitude", "scale"), [(4, 7), (30, 50), (60, 100), (1e9, 7000)])
def test_scale_is_a_round_number_near_the_signal(amplitude, scale):
    assert traces.scale_uv(np.tile([-amplitude, amplitude], (3, 100))) == scale


def test_the_stretch_with_most_kinds_of_events_is_shown():
    true = _events((3.0, 1.0, "a"), (4.0, 1.0, "a"), (6.0, 1.0, "a"), (50.0, 1.0, "a"))
    predicted = _events((55.0, 1.0, "b"))
    start, stop = traces.busiest_stretch(true, predicted, 100.0)
    assert start <= 50.0 and stop >= 56.0 and stop - start == traces._STRETCH_S


@pytest.mark.parametrize("duration", [5.0, 300.0])
def test_without_events_the_beginning_is_shown(duration):
    start, stop = traces.busiest_stretch(_events(), _events(), duration)
    assert (start, stop) == (0.0, min(duration, traces._STRETCH_S))


def _example(true: pd.DataFrame, predicted: pd.DataFrame) -> Example:
    rng = np.random.default_rng(0)
    probabilities = metrics.class_probabilities(rng.normal(size=(20, 2)))
    return Example(
        "rec",
        rng.normal(size=(3, 4000)),
        200.0,
        ["X1", "F7-T3", "T3-T5"],
        np.arange(20) + 0.5,
        probabilities,
        true,
        predicted,
    )


def test_an_event_is_shaded_on_its_channel_alone():
    true = _events((2.0, 1.0, "b"), (5.0, 1.0, "b")).assign(channel=["F7-T3", None])
    axes = traces.recording_events(_example(true, _events()), ["a", "b"], ["b"]).axes[1]
    heights = [np.ptp(shade.get_paths()[0].vertices[:, 1]) for shade in axes.collections]
    assert heights[0] == pytest.approx(1.0) and heights[1] == pytest.approx(np.ptp(axes.get_ylim()))


@pytest.mark.parametrize(
    "predicted", [_events(), _events((1.0, 2.0, "b")), _events((1.0, 2.0, "a"))]
)
def test_a_recording_with_few_events_or_none_is_drawn(predicted):
    _draw(traces.recording_events(_example(_events(), predicted), ["a", "b"], ["b"]))


@pytest.mark.parametrize("n_generated", [1, 3])
def test_generated_eeg_is_drawn_for_channels_of_no_chain(n_generated):
    rng = np.random.default_rng(0)
    samples = Samples(
        rng.normal(size=(5, 2, 300)), rng.normal(size=(5, n_generated, 300)), list("ABCDE"), 160.0
    )
    _draw(traces.generated_traces(samples))
    spectra = traces.generated_spectra(samples)
    _draw(spectra)
    assert [axes.get_title() for axes in spectra.axes if axes.get_title()] == list("ABCDE")


def test_spectrum_has_the_power_of_the_signal():
    """White noise of variance 4 at 200 Hz: density 4 / 100 µV²/Hz."""
    noise = 2 * np.random.default_rng(0).normal(size=(200, 1000))
    _, density = traces._spectrum(noise, 200.0)
    assert density.mean() == pytest.approx(0.04, rel=0.02)


def test_confusion_matrix_shows_shares_of_the_row_and_counts():
    scores = metrics.multiclass_scores(np.array([0, 0, 0, 0, 1]), np.eye(3)[[0, 0, 0, 1, 1]], 3)
    texts = [
        t.get_text()
        for t in charts.confusion_matrix(scores, ["$a$", r"\frac{", "c"], "t").axes[0].texts
    ]
    assert texts == [
        "75 %\n3",
        "25 %\n1",
        "0 %\n0",
        "0 %\n0",
        "100 %\n1",
        "0 %\n0",
        *["no\nwindow"] * 3,
    ]


def test_bars_span_the_runs_and_say_what_is_not_defined():
    runs = [
        metrics.multiclass_scores(np.array([0, 0, 0, 0, 1]), np.eye(3)[p], 3)
        for p in ([0, 0, 0, 0, 1], [0, 0, 1, 1, 1])
    ]
    figure = charts.class_bars(runs, ["$x_{$", "b", "c"])
    _draw(figure)
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert (
        texts[0] == "75" and texts.count("not defined") == 3
    )  # recall of a is 1 and 0.5; c neither occurs nor is predicted


def test_curves_have_a_panel_for_what_the_table_holds():
    table = pd.DataFrame(
        {"epoch": [0, 1], "lr": [1e-4, 1e-4], "train_loss": [1.0, 0.5], "val_n": [3, 3]}
    )
    pretraining = charts.training_curves({"backbone": table})
    assert [axes.get_ylabel() for axes in pretraining.axes] == ["loss", "learning rate"]
    scored = table.assign(
        val_loss=[1.0, np.nan],
        val_balanced_accuracy=[0.2, 0.4],
        val_kappa=[0.1, 0.2],
        val_auroc=0.5,
    )
    both = charts.training_curves({"seed 0": scored, "seed 1": scored})
    assert [axes.get_ylabel() for axes in both.axes] == [
        "loss",
        "kappa",
        "balanced\naccuracy",
        "learning rate",
    ]
    assert list(both.axes[1].lines[1].get_xdata()) == [1, 2]
    _draw(both)


def test_reliability_leaves_empty_bins_out():
    found = metrics.calibration(np.array([1, 0, 1]), np.array([0.95, 0.15, 0.95]))
    axes = charts.reliability({"as trained": found}, "seizure").axes[0]
    assert list(axes.lines[1].get_xdata()) == pytest.approx([0.15, 0.95])
    assert list(axes.lines[1].get_ydata()) == [0.0, 1.0]
