"""`eegdm watch lsl:NAME` with streams of the Lab Streaming Layer that another process sends, over
the loopback network of this computer alone.
"""

from __future__ import annotations  # noqa: I001

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
from inference.small import lively_model, made_up

import eegdm
from eegdm.inference import stream

ALONE = """[ports]
IPv6 = disable
[multicast]
ResolveScope = machine
ListenAddress = 127.0.0.1
[lab]
KnownPeers = {127.0.0.1}
SessionID = eegdm-tests
"""


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lsl_api.cfg").write_text(ALONE)
    monkeypatch.setenv("LSLAPICFG", str(tmp_path / "lsl_api.cfg"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(lively_model().save_pretrained(tmp_path_factory.mktemp("models") / "lively"))


@contextlib.contextmanager
def being_sent(recording: Path, name: str, *gap: float) -> Iterator[None]:
    command = [sys.executable, Path(__file__).with_name("streamer.py"), recording, name, *gap]
    with subprocess.Popen(
        list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
        assert process.poll() is None
        process.communicate()
        assert process.returncode == 0


def watch(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "eegdm", "watch", *map(str, words), "--no-report"]
    return subprocess.run(command, text=True, capture_output=True, env=os.environ)


def probabilities(table: pd.DataFrame) -> np.ndarray:
    return table[list(lively_model().decision["classes"])].to_numpy()


def assert_equals_predict(header: Path, model: str, least: int, within: float = 1e-5) -> None:
    """What was written while a stream came in, and at its end, is what predict says of its file."""
    expected = eegdm.predict(header, model)
    live = pd.read_csv(header.with_name(f"{header.stem}_live_probabilities.tsv"), sep="\t")
    assert len(live) >= least
    assert live.onset_s.tolist() == expected.windows.onset_s[: len(live)].tolist()
    away = probabilities(live) - probabilities(expected.windows)[: len(live)]
    assert np.abs(away).max() < within
    table = pd.read_parquet(header.with_name(f"{header.stem}_probabilities.parquet"))
    assert np.abs(probabilities(table) - probabilities(expected.windows)).max() < 1e-5


@pytest.mark.ci
@pytest.mark.timeout(900)
def test_a_stream_is_recorded_and_watched(network: None, model: str, tmp_path: Path) -> None:
    sent = made_up(100.0)
    sent.save(tmp_path / "sent_raw.fif", verbose="ERROR")
    out = tmp_path / "out"
    with being_sent(tmp_path / "sent_raw.fif", "EEG, lab 1"):
        done = watch("lsl:EEG, lab 1", "--model", model, "--out", out, "--seconds", 98)
    assert done.returncode == 0, done.stderr
    assert "EEG_lab_1.vhdr, 22 channels at 256 Hz; a window is known 23.1 s after" in done.stdout
    recorded = mne.io.read_raw(out / "EEG_lab_1.vhdr", verbose="ERROR")
    # Whole seconds, all that came until it was noticed that there were 98.
    assert recorded.n_times % 256 == 0
    assert 98 <= recorded.n_times / 256 <= 100
    assert recorded.ch_names == sent.ch_names
    found, expected = recorded.get_data(), sent.get_data()[:, : recorded.n_times]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)
    assert_equals_predict(out / "EEG_lab_1.vhdr", model, least=98 - 5 - 24)


@pytest.mark.ci
@pytest.mark.timeout(900)
def test_a_stream_that_is_interrupted_becomes_two_recordings(
    network: None, model: str, tmp_path: Path
) -> None:
    sent = made_up(90.0)
    sent.save(tmp_path / "sent_raw.fif", verbose="ERROR")
    with being_sent(tmp_path / "sent_raw.fif", "amplifier", 40.0, 7.0):
        done = watch("lsl:amplifier", "--model", model, "--out", tmp_path, "--seconds", 45)
    assert done.returncode == 0, done.stderr
    first, second = (
        mne.io.read_raw(tmp_path / f"amplifier{number}.vhdr", verbose="ERROR").get_data()
        for number in ("", "-2")
    )
    # What was on its way when the connection broke is lost, as it would be.
    n_first, n_second = first.shape[1], second.shape[1]
    assert 38 <= n_first / 256 <= 40
    np.testing.assert_allclose(first, sent.get_data()[:, :n_first], rtol=1e-6, atol=1e-12)
    start = 40 * 256
    expected = sent.get_data()[:, start : start + n_second]
    np.testing.assert_allclose(second, expected, rtol=1e-6, atol=1e-12)
    # MNE pads so short a recording by 10 s and rings where its ends meet: 1 / (5 * 2560) of a jump.
    assert_equals_predict(tmp_path / "amplifier.vhdr", model, least=10, within=8e-5)
    assert_equals_predict(tmp_path / "amplifier-2.vhdr", model, least=15, within=8e-5)


@pytest.mark.ci
@pytest.mark.timeout(900)
def test_faults_of_a_stream_are_named(network: None, model: str, tmp_path: Path) -> None:
    done = watch("lsl:nobody", "--model", model, "--out", tmp_path)
    assert done.returncode == 2
    assert "no stream 'nobody' of the Lab Streaming Layer answered within 10 s" in done.stderr
    done = watch("lsl:nobody", "--model", model)
    assert done.returncode == 2
    assert "--out is missing" in done.stderr


@pytest.mark.parametrize(
    ("stated", "unit", "expected"),
    [
        (["microvolts", "uV", "-6", "0", "mV"], None, ["µV", "µV", "µV", "V", "mV"]),
        (["none", None, "percent"], None, ["n/a"] * 3),
        (["V", None], "uV", ["µV", "µV"]),
    ],
)
def test_units_are_spelt_as_brainvision_does(
    stated: list[str | None], unit: str | None, expected: list[str]
) -> None:
    assert stream._units(stated, unit) == expected
