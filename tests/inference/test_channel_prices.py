"""Results that rest on channels that are not exact say in one line what such channels cost."""

from __future__ import annotations  # noqa: I001

import re

import pytest
from inference.small import made_up, small_model

import eegdm
from conftest import ROOT
from eegdm.inference.channel_prices import BETWEEN_WINDOWS, OF_CHANNELS, PRICES, price_notes


def priced(notes: list[str]) -> list[str]:
    return [note for note in notes if "what such channels cost" in note]


def test_exact_and_derived_channels_have_no_price() -> None:
    assert price_notes(["exact", "derived"] * 11, 0) == []
    assert priced(eegdm.predict(made_up(20.0), small_model()).notes) == []


def test_each_kind_is_counted_in_one_line() -> None:
    (note,) = price_notes(["exact"] * 15 + ["interpolated"] * 3, 4)
    assert "3 of 22 interpolated" in note and "4 of 22 missing" in note
    assert "nearest" not in note


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"missing": "drop"}, "3 of 22 missing"),
        ({"missing": "interpolate"}, "3 of 22 interpolated"),
        ({"channels": "file"}, r"\d+ of \d+ nearest"),
    ],
)
def test_predictions_embeddings_and_surprise_say_it(options: dict[str, str], said: str) -> None:
    raw = made_up(20.0).drop_channels(["EEG T5-REF", "EEG A2-REF"])
    model = small_model()
    found = (
        eegdm.predict(raw, model, **options).notes,
        eegdm.embed(raw, model, **options).about.notes,
        eegdm.surprise(raw, **options).notes,
    )
    for notes in found:
        (note,) = priced(notes)
        assert re.search(said, note), note


def test_the_prices_are_those_of_the_documents() -> None:
    """The table in docs/results.md and what is printed are one measurement."""
    text = (ROOT / "docs" / "results.md").read_text()
    for kind, prices in PRICES.items():
        rows = re.findall(rf"^\| {kind} \| \d \| (.*) \|$", text, re.MULTILINE)
        assert len(rows) == len(prices) == 3
        for row, price in zip(rows, prices, strict=True):
            pairs, error, correlation, otherwise, auroc, _ = row.split(" | ")
            assert (float(pairs), float(otherwise)) == (price.n_channels, price.decided_otherwise)
            assert re.findall(r"[+-][\d.]+", auroc) == [f"{x:+.3f}" for x in price.auroc]
            if price.error is not None:
                assert float(error.split()[0]) == price.error
                assert float(correlation) == price.correlation
    assert f"differ by {BETWEEN_WINDOWS:.3f}" in text and OF_CHANNELS == 20
