"""The page: self-contained, safe against what stands in files, and right in what it says."""

from __future__ import annotations  # noqa: I001

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from inference.small import DECISION, lively_model, made_up, small_model

from eegdm.evaluation.decision import find_events, rule_of
from eegdm.inference.prediction import Options, Prediction, predict_in
from eegdm.inference.prediction_figures import timeline
from eegdm.inference.prediction_page import write_page
from eegdm.inference.preparation import Prepared

EVIL = '<script>boom()</script>"><img src=x onerror=boom()>'


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Prediction, Prepared]:
    return predict_in(
        tmp_path_factory.mktemp("work"),
        made_up(20.0),
        lively_model(),
        Options(step_s=1.0, threshold=0.5),
    )


def page(
    tmp_path: Path,
    found: tuple[Prediction, Prepared],
    threshold: float = 0.5,
    name: str = "recording.edf",
) -> str:
    model = small_model()
    rule = rule_of(model, threshold=threshold)
    prediction = found[0]._replace(events=find_events(found[0].windows, rule))
    write_page(tmp_path / "page.html", name, prediction, found[1], model, rule)
    return (tmp_path / "page.html").read_text()


def words(html: str) -> str:
    return " ".join(
        re.sub(
            r"<[^>]*>", " ", re.sub(r"<(script|style).*?</\1>", " ", html, flags=re.DOTALL)
        ).split()
    )


class Requests(HTMLParser):
    """What a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        target = values.get("src") or (values.get("href") if tag == "link" else None)
        if target and not target.startswith("data:"):
            self.found.append(target)


def test_nothing_is_fetched(tmp_path: Path, found: tuple[Prediction, Prepared]) -> None:
    parser = Requests()
    parser.feed(page(tmp_path, found))
    assert parser.found == []


def test_it_says_what_was_found_and_what_it_is_not_for(
    tmp_path: Path, found: tuple[Prediction, Prepared]
) -> None:
    text = words(page(tmp_path, found))
    n = len(find_events(found[0].windows, rule_of(small_model())))
    assert n > 0
    assert "not a medical device" in text
    assert f"recording.edf lasts 0:20. {n} event" in text
    for channel in found[0].ch_names:
        assert channel in text
    assert "band-pass 0.1 to 75 Hz" in text and "resampled to 200 Hz" in text


def test_without_events_it_shows_what_is_most_like_one(
    tmp_path: Path, found: tuple[Prediction, Prepared]
) -> None:
    text = words(page(tmp_path, found, threshold=1.0))
    assert "No event was found" in text and "Not an event" in text


def test_words_from_files_are_escaped(tmp_path: Path, found: tuple[Prediction, Prepared]) -> None:
    prediction, prepared = found
    classes = [EVIL, *DECISION["classes"][1:]]
    model = small_model(decision=DECISION | {"classes": classes, "event_classes": classes[:5]})
    model.info = {"data": {"corpus": EVIL}, "licence": EVIL}
    windows = prediction.windows.rename(columns={"SPSW": EVIL})
    rule = rule_of(model)
    evil = prediction._replace(
        windows=windows,
        events=find_events(windows, replace(rule, threshold=0.0)),
        notes=[EVIL],
        steps=[EVIL],
        quality=prediction.quality.assign(channel=EVIL),
    )
    shown = replace(prepared, ch_names=[EVIL] * 22)
    write_page(tmp_path / "page.html", EVIL, evil, shown, model, rule)
    html = (tmp_path / "page.html").read_text()
    assert "boom()" in html
    assert "<script>boom()" not in html and "<img src=x" not in html


def test_channels_with_faults_are_pointed_out(
    tmp_path: Path, found: tuple[Prediction, Prepared]
) -> None:
    quality = found[0].quality.copy()
    quality.loc[0, "flat"], quality.loc[1, "clipped"], quality.loc[2, "mains_uv"] = 0.5, 0.02, 80.0
    html = page(tmp_path, (found[0]._replace(quality=quality), found[1]))
    rows = re.findall(r'<tr class="strong">(.*?)</tr>', html)
    assert [re.findall(r"<td>(.*?)</td>", row)[-1] for row in rows] == ["flat", "clipped", "hum"]
    assert "3 of 22 channels are pointed out" in html


def test_a_day_s_timeline_still_shows_a_window_s_event() -> None:
    """86,400 windows, one of them high: its column is as high as it is."""
    windows = pd.DataFrame(
        {"onset_s": np.arange(86_400.0), "duration_s": 1.0, "seizure": 0.01, "background": 0.99}
    )
    windows.loc[54_321, "seizure"] = 0.9
    rule = rule_of(small_model(classes=["background", "seizure"], decision={"resolution_s": 1.0}))
    figure = timeline(windows, find_events(windows, rule), rule, 86_400.0)
    drawn = figure.axes[1].collections[0].get_paths()[0].vertices
    assert drawn[:, 1].max() == pytest.approx(0.9)
    assert len(drawn) < 10_000
    assert abs(drawn[drawn[:, 1].argmax(), 0] - 54_321) < 86_400 / 1600
