"""A folder of features holds what `eegdm.embed` gives for each recording, joins to labels, and is
made by a command that can be interrupted at any moment.
"""

from __future__ import annotations  # noqa: I001

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
from inference.small import ELECTRODES, made_up, small_model
from typer.testing import CliRunner

import eegdm
from eegdm import artifacts, cli
from eegdm.config import CorpusConfig
from eegdm.data.corpora import survey
from eegdm.errors import UserError
from eegdm.features import FeatureStore, embed_folder, making, open_store
from eegdm.features.extractors import Description
from eegdm.features.recording import Job, process
from eegdm.features.store import ARRAYS, array_path
from eegdm.inference.chunks import Batch
from eegdm.inference.embedding import BackboneReader, EmbedOptions, prepare_windows
from stages.tiny import command_line, one_thread

SECONDS = {"sub-01_a": 32.0, "night/sub-02_b": 22.0, "sub-03_c": 12.0}


def write_edf(path: Path, seconds: float, seed: int, names: Sequence[str] = ELECTRODES) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = made_up(seconds, seed=seed, names=tuple(names))
    mne.export.export_raw(path, raw, fmt="edf", physical_range=(-1000, 1000), verbose="ERROR")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with tokens of two queries."""
    made = small_model(tokens={"query": ["gate", "inter"], "pool": ["std", "mean"]})
    return made.save_pretrained(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings, the last without ears, and a file that is not a recording."""
    folder = tmp_path_factory.mktemp("recordings")
    for seed, (name, seconds) in enumerate(SECONDS.items()):
        names = ELECTRODES[:-2] if name == "sub-03_c" else ELECTRODES
        write_edf(folder / f"{name}.edf", seconds, seed, names)
    (folder / "text.edf").write_text("not a recording")
    (folder / "labels.csv").write_text(
        "file,onset_s,duration_s,label,subject\n"
        "sub-01_a.edf,0,12.5,rest,anna\n"
        "sub-01_a.edf,12.5,4,task,anna\n"
        "sub-01_a.edf,17,1.5,task,anna\n"
        "sub-02_b.edf,,,rest,\n"
    )
    return folder


@pytest.fixture(scope="module")
def made(source: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The features of these recordings, with labels."""
    out = tmp_path_factory.mktemp("out") / "store"
    embed_folder(source, model, out, table=source / "labels.csv", missing="drop")
    return out


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """A copy, to change."""
    shutil.copytree(made, tmp_path / "store")
    return tmp_path / "store"


def arrays(folder: Path) -> dict[str, tuple[int, int]]:
    """Time and size of every array of a folder."""
    found = sorted((folder / ARRAYS).rglob("*.npy"))
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in found
    }


# ----------------------------------------------------------------------------------- what it holds


def test_features_are_those_of_embed_recording_by_recording(
    made: Path, source: Path, model: Path
) -> None:
    store = FeatureStore.open(made)
    assert store.features["tokens"].axes == ("window", "channel", "block", "feature")
    assert sorted(store.names) == sorted(SECONDS)
    for name in SECONDS:
        alone = eegdm.embed(source / f"{name}.edf", model, missing="drop")
        values = store.array("tokens", name)
        assert isinstance(values, np.memmap)
        n_windows, n_channels = alone.values.shape[:2]
        expected = alone.values.reshape(n_windows, n_channels, 2, 2, 8)  # query, block, feature
        expected = expected.transpose(0, 1, 3, 2, 4).reshape(n_windows, n_channels, 2, 16)
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6)
        own = store.windows[store.windows.recording == name]
        assert own.onset_s.tolist() == alone.about.onset_s.tolist()
        assert set(own.duration_s) == {alone.about.duration_s}
        row = store.recordings.set_index("recording").loc[name]
        assert list(row.ch_names) == alone.about.ch_names
        assert list(row.notes) == alone.about.notes
    assert store.features["tokens"].coordinates["feature"][8:10] == ["inter.0", "inter.1"]


def test_a_file_that_is_not_a_recording_is_one_row_and_names_no_folder(
    made: Path, source: Path
) -> None:
    store = FeatureStore.open(made)
    failed = store.recordings[store.recordings.status != "ok"]
    assert failed.file.tolist() == ["text.edf"]
    assert "is not an EDF file" in failed.reason.iloc[0]
    assert str(source) not in failed.reason.iloc[0]
    assert store.artifact.summary["failed"] == 1
    with pytest.raises(UserError, match=r"no features of text \(text.edf is not an EDF file"):
        store.array("tokens", "text")


def test_people_are_recognised_from_names_and_the_table(made: Path) -> None:
    recordings = FeatureStore.open(made).recordings.set_index("recording")
    assert recordings.subject.to_dict() == {
        "sub-01_a": "anna",
        "night/sub-02_b": "02",
        "sub-03_c": "03",
        "text": "text",
    }


def test_each_window_has_the_label_that_covers_most_of_it(made: Path) -> None:
    windows = FeatureStore.open(made).windows
    labels = {
        name: [None if pd.isna(x) else x for x in own.label]
        for name, own in windows.groupby("recording")
    }
    # half of the third window is rest and half task; the fourth holds two times 1.5 s of task
    assert labels["sub-01_a"] == ["rest", "rest", None, "task", None, None]
    assert labels["night/sub-02_b"] == ["rest"] * 4
    assert labels["sub-03_c"] == [None] * 2


def test_the_index_finds_every_channel_of_every_window(made: Path) -> None:
    store = FeatureStore.open(made)
    index = pd.read_parquet(made / "index.parquet")
    assert list(index) == ["recording", "onset_s", "duration_s", "channel", "row"]
    assert len(index) == sum(store.array("tokens", name)[..., 0, 0].size for name in SECONDS)
    files = pd.read_csv(store.path / "labels.csv").file.unique()
    joined = index.merge(store.recordings[["recording", "file"]], on="recording")
    assert set(files) == {Path(file).name for file in joined.file} - {"sub-03_c.edf"}
    for name, own in index.groupby("recording", observed=True):
        values = store.array("tokens", name)
        flat = values.reshape(-1, *values.shape[2:])
        ch_names = list(store.recordings.set_index("recording").ch_names[name])
        place = own[(own.onset_s == 5.0) & (own.channel == "T3-C3")].row.item()
        assert np.array_equal(flat[place], values[1, ch_names.index("T3-C3")])


def test_features_of_all_recordings_are_one_array(made: Path) -> None:
    store = FeatureStore.open(made)
    values, table, ch_names = store.stack("tokens")
    assert len(ch_names) == 20 and not {"A1-T3", "A2-T4"} & set(ch_names)
    assert values.shape == (6 + 4 + 2, 20, 2, 16) and len(table) == len(values)
    wanted = ["O1-O2", "F3-C3"]
    with pytest.raises(UserError, match="has no channel O1-O2"):
        store.stack("tokens", wanted)
    values, table, ch_names = store.stack("tokens", ["P4-O2", "F3-C3"])
    assert ch_names == ["P4-O2", "F3-C3"]
    for name in SECONDS:
        own = list(store.recordings.set_index("recording").ch_names[name])
        expected = store.array("tokens", name)[:, [own.index(c) for c in ch_names]]
        assert np.array_equal(values[table.recording == name], expected)
    assert set(table) >= {"file", "subject", "onset_s", "label"}
    with pytest.raises(UserError, match="holds no features called 'bands', but tokens"):
        store.stack("bands")


@pytest.mark.parametrize(
    ("names", "options", "expected"),
    [
        (ELECTRODES, {}, {"FP1-F7": "derived"}),
        (
            ELECTRODES[1:],
            {"missing": "interpolate"},
            {"FP1-F7": "interpolated", "P4-O2": "derived"},
        ),
        (ELECTRODES, {"channels": "file"}, {"EEG C3-REF": "nearest"}),
    ],
)
def test_each_channel_says_how_it_came_about(
    names: tuple[str, ...], options: dict, expected: dict[str, str], model: Path, tmp_path: Path
) -> None:
    settings = BackboneReader.of(model).preparation(EmbedOptions(**options))
    found, _ = prepare_windows(made_up(12.0, names=names), settings, 5.0, None, tmp_path)
    origins = dict(zip(found.ch_names, found.origins, strict=True))
    assert {name: origins[name] for name in expected} == expected


def test_a_channel_of_the_montage_in_the_file_is_exact(model: Path, tmp_path: Path) -> None:
    raw = made_up(12.0, names=("FP1-F7", "C3-P3"))
    raw.rename_channels(lambda name: name.removeprefix("EEG ").removesuffix("-REF"))
    for channels in ("montage", "file"):
        options = EmbedOptions(channels=channels, missing="drop")
        settings = BackboneReader.of(model).preparation(options)
        found, _ = prepare_windows(raw, settings, 5.0, None, tmp_path / channels)
        assert found.origins == ["exact", "exact"], channels


# ---------------------------------------------------------------------------------- again and again


def test_a_finished_folder_is_left_alone(store: Path, source: Path, model: Path) -> None:
    before = arrays(store), artifacts.open_artifact(store).fingerprint
    again = embed_folder(source, model, store, missing="drop")
    assert (arrays(store), again.artifact.fingerprint) == before
    assert "label" in again.windows


def test_other_labels_need_no_other_features(
    store: Path, source: Path, model: Path, tmp_path: Path
) -> None:
    before = arrays(store)
    table = tmp_path / "whole.tsv"
    table.write_text("file\tlabel\nsub-03_c.edf\tpatient\nsub-01_a.edf\tcontrol\n")
    found = embed_folder(source, model, store, table=table, missing="drop")
    counts = found.windows.groupby("recording").label.agg(
        lambda labels: list(labels.dropna().unique())
    )
    assert counts.to_dict() == {
        "sub-01_a": ["control"],
        "night/sub-02_b": [],
        "sub-03_c": ["patient"],
    }
    assert [path.name for path in store.glob("labels.*")] == ["labels.tsv"]
    assert arrays(store) == before
    assert found.recordings.set_index("recording").subject["sub-01_a"] == "01"


def test_a_folder_is_named_by_source_and_model_on_every_system(tmp_path: Path) -> None:
    """Windows has no colons in names; hub ids have one before their file."""
    source = tmp_path / "nights"
    for model, name in (
        ("mini", "nights-mini"),
        ("models/classifier.ckpt", "nights-classifier"),
        ("lab/models@v1:classifier.ckpt", "nights-models@v1-classifier"),
    ):
        assert making.default_name(source, model) == name


def test_with_strict_a_failure_is_an_error(store: Path, source: Path, model: Path) -> None:
    with pytest.raises(UserError, match="1 of 4 recordings failed"):
        embed_folder(source, model, store, missing="drop", strict=True)
    assert artifacts.is_finished(store)


def test_another_model_or_treatment_is_refused(store: Path, source: Path, model: Path) -> None:
    before = arrays(store)
    with pytest.raises(UserError, match="was made with model.*choose another --out"):
        embed_folder(source, "mini", store, missing="drop")
    with pytest.raises(UserError, match="was made with missing='drop', this run wants 'error'"):
        embed_folder(source, model, store)
    with pytest.raises(UserError, match="was made with step_s=5.0, this run wants 2.5"):
        embed_folder(source, model, store, missing="drop", step_s=2.5)
    (store / artifacts.MANIFEST).unlink()
    with pytest.raises(UserError, match="was made with missing="):
        embed_folder(source, model, store)
    assert arrays(store) == before


def test_other_recordings_are_refused(
    store: Path, source: Path, model: Path, tmp_path: Path
) -> None:
    more = tmp_path / "more"
    shutil.copytree(source, more)
    shutil.copy(more / "sub-01_a.edf", more / "sub-04_d.edf")
    (more / "sub-03_c.edf").unlink()
    with pytest.raises(UserError, match=r"1 new \(sub-04_d.edf\), 1 gone \(sub-03_c.edf\)"):
        embed_folder(more, model, store, missing="drop")
    other = tmp_path / "other"
    write_edf(other / "sub-09_x.edf", 12.0, 9)
    (store / artifacts.MANIFEST).unlink()
    with pytest.raises(UserError, match="was begun with other recordings"):
        embed_folder(other, model, store, missing="drop")


def test_a_copied_corpus_is_the_same_corpus_and_a_changed_file_is_not(
    store: Path, source: Path, model: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(source, copy, copy_function=shutil.copyfile)  # with other times
    before = arrays(store)
    embed_folder(copy, model, store, missing="drop")
    assert arrays(store) == before
    content = bytearray((copy / "sub-01_a.edf").read_bytes())
    content[-1] ^= 1
    (copy / "sub-01_a.edf").write_bytes(content)
    with pytest.raises(UserError, match=r"1 changed \(sub-01_a.edf\)"):
        embed_folder(copy, model, store, missing="drop")


@pytest.mark.ci
def test_a_broken_file_may_be_mended(
    store: Path, source: Path, model: Path, tmp_path: Path
) -> None:
    mended = tmp_path / "mended"
    shutil.copytree(source, mended)
    (mended / "text.edf").unlink()
    write_edf(mended / "text.edf", 12.0, 7)
    before = arrays(store)
    found = embed_folder(mended, model, store, missing="drop")
    assert set(found.recordings.status) == {"ok"}
    after = arrays(store)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {"features/tokens/text.npy"}


def test_nothing_is_left_where_no_recording_can_be_used(model: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "text.edf").write_text("not a recording")
    with pytest.raises(UserError, match=r"none of 1 recordings could be used \(text.edf: "):
        embed_folder(tmp_path / "source", model, tmp_path / "store")
    assert not (tmp_path / "store" / artifacts.PLAN).exists()


# --------------------------------------------------------------------------- killed, and by several


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for number in range(8):
        write_edf(folder / f"s{number}.edf", 32.0, number)
    return folder


@pytest.mark.ci
def test_a_killed_run_resumes_to_the_same_bytes(many: Path, model: Path, tmp_path: Path) -> None:
    whole = command_line("embed", many, "--model", model, "--out", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    killed = tmp_path / "killed"
    words = ["embed", str(many), "--model", str(model), "--out", str(killed)]
    command = [sys.executable, "-m", "eegdm", *words]
    process = subprocess.Popen(command, env=one_thread(), stdout=subprocess.DEVNULL)
    while len(artifacts.whole_files(killed, "parts/*.json")) < 2:
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1.0)  # its worker ends
    before = arrays(killed)
    n_parts = len(artifacts.whole_files(killed, "parts/*.json"))
    assert 2 <= n_parts < 8 and not artifacts.is_finished(killed)
    with pytest.raises(UserError, match="is unfinished: run its command again"):
        FeatureStore.open(killed)
    finished = {
        f"features/tokens/{path.stem}.npy" for path in artifacts.whole_files(killed, "parts/*.json")
    }
    resumed = command_line(*words)
    assert resumed.returncode == 0, resumed.stderr
    after = arrays(killed)
    assert {name: after[name] for name in finished} == {name: before[name] for name in finished}
    one, other = (artifacts.read_json(f / artifacts.MANIFEST) for f in (tmp_path / "whole", killed))
    assert one["files"] == other["files"] and one["fingerprint"] == other["fingerprint"]
    assert artifacts.verify(killed) == []


def test_what_a_killed_run_left_half_written_is_swept_and_not_read(
    store: Path, source: Path, model: Path
) -> None:
    whole = artifacts.read_json(store / artifacts.MANIFEST)["files"]
    artifacts.reopen(store)
    part = artifacts.whole_files(store, "parts/*.json")[0]
    half = part.with_name(f".{part.name}.123.tmp.json")
    half.write_text(part.read_text()[:20])
    assert part in artifacts.whole_files(store, "parts/*") and half in store.glob("parts/*.json")
    embed_folder(source, model, store, missing="drop")
    assert not half.exists()
    assert artifacts.read_json(store / artifacts.MANIFEST)["files"] == whole


@pytest.mark.ci
@pytest.mark.parametrize("by", ["two processes", "a dask cluster"])
def test_several_workers_write_what_one_does(
    by: str, made: Path, source: Path, model: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    cluster = request.getfixturevalue("cluster") if by == "a dask cluster" else None
    found = embed_folder(
        source,
        model,
        tmp_path / "store",
        table=source / "labels.csv",
        missing="drop",
        workers=2,
        cluster=cluster,
    )
    alone = FeatureStore.open(made)
    pd.testing.assert_frame_equal(found.windows, alone.windows)
    pd.testing.assert_frame_equal(found.recordings, alone.recordings)
    for name in SECONDS:
        np.testing.assert_allclose(
            found.array("tokens", name), alone.array("tokens", name), rtol=0, atol=1e-6
        )


# -------------------------------------------------------------------------------- other features


@dataclass(frozen=True)
class Power:
    """The mean square of each channel, repeated."""

    n_repeats: int = 1
    name: str = "power"

    def describe(self) -> Description:
        return Description(f"power {self.n_repeats}", ("window", "channel", "feature"), {})

    def __call__(self, batch: Batch, sfreq: float, channel_ids: Sequence[int]) -> np.ndarray:
        power = (batch.data.astype(np.float64) ** 2).mean(axis=-1)
        return np.repeat(power[..., None], self.n_repeats, axis=-1)


@pytest.mark.ci
def test_other_features_of_the_same_windows_lie_beside(
    store: Path, source: Path, model: Path, tmp_path: Path
) -> None:
    before = arrays(store)
    found = open_store(store, [Power()])
    assert set(found.features) == {"tokens", "power"}
    assert {name: arrays(store)[name] for name in before} == before
    settings = BackboneReader.of(model).preparation(EmbedOptions(missing="drop"))
    for name in SECONDS:
        prepared, windows = prepare_windows(
            source / f"{name}.edf", settings, 5.0, None, tmp_path / name
        )
        expected = [
            (prepared.read(start, start + 1000).astype(np.float64) ** 2).mean(axis=1)
            for start in windows.starts
        ]
        np.testing.assert_allclose(found.array("power", name)[..., 0], expected, rtol=1e-6)
    assert "label" in found.windows
    after = arrays(store)
    assert open_store(store, [Power()]).artifact.fingerprint == found.artifact.fingerprint
    assert arrays(store) == after
    with pytest.raises(UserError, match="holds other features by the name 'power'"):
        open_store(store, [Power(n_repeats=2)])


def test_a_folder_of_features_opens_as_it_is(store: Path) -> None:
    shutil.rmtree(store / "parts")  # what a finished folder does not need
    assert open_store(store).names == FeatureStore.open(store).names
    with pytest.raises(UserError, match="holds features already, missing= is that of the folder"):
        open_store(store, missing="error")


def test_features_need_no_more_memory_than_a_batch_of_them(
    source: Path, model: Path, tmp_path: Path
) -> None:
    identity, cut = making._store_settings(str(model), EmbedOptions(step_s=0.1))
    found = survey(CorpusConfig(name="folder", source=str(source), events="none"))
    with artifacts.building(tmp_path / "store", "embeddings", identity, {}) as folder:
        (first,) = (s for s in found.sources if s.recording == "sub-01_a")
        job = Job(first, source, folder, artifacts.run_of(folder), ("power",))
        tracemalloc.start()
        process(job, cut, [Power(n_repeats=10_000)])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    written = array_path(folder, "power", "sub-01_a").stat().st_size
    assert written > 200 * 2**20
    assert peak < written / 2


# ----------------------------------------------------------------------------------- command line


def test_the_command_says_what_it_did_and_where(
    made: Path, source: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Path("runs") / "embeddings" / f"{source.name}-small"
    place.parent.mkdir(parents=True)
    shutil.copytree(made, place)
    words = ["embed", str(source), "--model", str(model), "--missing", "drop"]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0, result.output
    assert "4 people in 4 recordings, recognised by" in result.stdout
    assert "  failed   text.edf: text.edf is not an EDF file" in result.stdout
    assert (
        "embed: 3 recordings of 3 people, 0.02 h, 12 windows (rest 6, task 1); 1 failed"
        in result.stdout
    )
    assert result.stdout.splitlines()[-1] == str(place)
    said = CliRunner().invoke(cli.app, ["info", str(place), "--verify"]).stdout
    assert "failed text.edf: text.edf is not an EDF file" in said
    assert "intact: every file has the size" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tokens"], "all axes are kept of a single recording only"),
        (["--out", "x.npz"], "the features of a folder are a folder"),
        (["--table", "absent.csv"], "absent.csv: can't be read"),
        (["--model", "absent"], "absent"),
        (["--missing", "guess"], "--missing 'guess' is unknown"),
    ],
)
def test_wrong_options_are_one_line(
    words: list[str], message: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.app, ["embed", str(source), *words])
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception) and "\n" not in str(result.exception)
    assert not list(tmp_path.rglob("*.npy"))


def test_a_table_goes_with_a_folder(source: Path) -> None:
    words = ["embed", str(source / "sub-01_a.edf"), "--table", "labels.csv"]
    result = CliRunner().invoke(cli.app, words)
    assert "--table labels.csv: goes with a folder of recordings" in str(result.exception)


# -------------------------------------------------------------------------------------- real EEG


@pytest.mark.ci
@pytest.mark.real
def test_real_recordings_join_to_their_labels(shared: Path, model: Path, tmp_path: Path) -> None:
    people = shared / "data" / "people" / "eegmat"
    source = tmp_path / "eegmat"
    source.mkdir()
    files = sorted(people.glob("*.edf"))[:4]
    for file in files:
        (source / file.name).symlink_to(file)
    table = people / "events.csv"
    store = embed_folder(source, model, tmp_path / "store", table=table, missing="drop")
    assert set(store.recordings.status) == {"ok"}
    assert store.recordings.subject.nunique() == 2
    rows = pd.read_csv(table).set_index("file")
    values, windows, ch_names = store.stack("tokens")
    assert len(ch_names) == 20 and np.isfinite(values).all()
    for file in files:
        own = windows[windows.file == file.name]
        end = rows.onset_s[file.name] + rows.duration_s[file.name]
        labelled = own[own.onset_s + own.duration_s <= end]
        assert len(labelled) > 8 and set(labelled.label) == {rows.label[file.name]}
    alone = eegdm.embed(files[0], model, missing="drop").values
    alone = alone.reshape(*alone.shape[:2], 2, 2, 8).transpose(0, 1, 3, 2, 4)
    own = values[(windows.file == files[0].name).to_numpy()]
    np.testing.assert_allclose(own, alone.reshape(own.shape), rtol=0, atol=1e-6)
    origin = json.loads((tmp_path / "store" / "origin.json").read_text())
    assert origin["model"] == str(model)
