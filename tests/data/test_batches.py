"""Batches: the same whatever the number of processes, each sample once, windows equal to a plain
cut.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from eegdm import artifacts
from eegdm.data.batches import Denoising, GlobalBatches, SignalWindows, generator, loader
from eegdm.data.recordings import Recordings
from eegdm.data.signal import compand
from eegdm.data.tokens import CachedTokens, TokenStore, shard_is_done, write_shard
from eegdm.errors import UserError


@pytest.fixture
def recordings(tmp_path) -> Recordings:  # noqa: ANN001
    """Two recordings, the second without the first channel."""
    folder = tmp_path / "recordings"
    rng = np.random.default_rng(0)
    rows = []
    with artifacts.building(folder, "recordings", {"signal": {"per_window": False}}, {}):
        for name, names, ids, n in [
            ("a", ["FP1-F7", "F7-T3"], [0, 1], 3000),
            ("b", ["F7-T3"], [1], 2000),
        ]:
            (folder / "signals").mkdir(exist_ok=True)
            np.save(
                folder / "signals" / f"{name}.npy",
                rng.standard_normal((len(names), n)).astype(np.float32) * 2,
            )
            rows.append(
                {
                    "recording": name,
                    "subject": name,
                    "sfreq": 200.0,
                    "n_times": n,
                    "ch_names": names,
                    "channel_ids": ids,
                    "status": "ok",
                    "reason": "",
                    "signal": f"signals/{name}.npy",
                }
            )
        artifacts.write_table(folder / "recordings.parquet", pd.DataFrame(rows))
        artifacts.write_table(
            folder / "events.parquet", pd.DataFrame({"recording": [], "label": []})
        )
        artifacts.finish(folder)
    return Recordings(folder)


SAMPLES = pd.DataFrame(
    {
        "recording": ["a", "b", "a"],
        "start_sample": [-200, 1200, 2500],
        "n_times": 1000,
        "label": [0, 1, 2],
    }
)


def test_windows_wrap_compand_and_mask(recordings: Recordings) -> None:
    batch = SignalWindows(recordings, SAMPLES, recordings.ch_names)[[(0, 0), (0, 1), (0, 2)]]
    assert recordings.ch_names == ["FP1-F7", "F7-T3"]
    for k, row in enumerate(SAMPLES.itertuples()):
        signal = np.concatenate([recordings.signal(row.recording)] * 3, axis=1)
        start = row.start_sample + signal.shape[1] // 3
        expected = compand(signal[:, start : start + 1000])
        np.testing.assert_allclose(batch.data[k][batch.mask[k]].numpy(), expected, atol=1e-7)
    assert batch.mask.tolist() == [[True, True], [False, True], [True, True]]
    assert (batch.data[1, 0] == 0).all() and batch.label.tolist() == [0, 1, 2]


def test_noise_and_step_are_functions_of_seed_epoch_and_sample(recordings: Recordings) -> None:
    view = pd.DataFrame(
        {
            "recording": ["a", "b"],
            "start_sample": [0, 0],
            "n_times": 500,
            "row": [1, 0],
            "channel_id": [1, 1],
        }
    )
    data = Denoising(recordings, view, 50, seed=3)
    one, two = data[[(4, 0), (4, 1)]], data[[(4, 1)]]
    assert (one.noise[1] == two.noise[0]).all() and one.step[1] == two.step[0]
    other_epoch, other_seed = data[[(5, 1)]], Denoising(recordings, view, 50, seed=4)[[(4, 1)]]
    assert not (other_epoch.noise == two.noise).any() and not (other_seed.noise == two.noise).any()
    many = np.concatenate([data[[(e, 0), (e, 1)]].step.numpy() for e in range(400)])
    assert set(many) == set(range(50))


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("n", [10, 23])
def test_global_batches_do_not_depend_on_the_number_of_processes(world: int, n: int) -> None:
    shares = [GlobalBatches(n, 6, seed=1, rank=r, world=world) for r in range(world)]
    for sampler in shares:
        sampler.set_epoch(2)
    whole = [sorted(sum(batch, [])) for batch in zip(*shares, strict=True)]
    alone = GlobalBatches(n, 6, seed=1)
    alone.set_epoch(2)
    assert whole == [sorted(batch) for batch in alone]
    assert sorted(i for batch in whole for _, i in batch) == list(range(n))


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("n", [10, 13, 18, 19])
def test_the_weighted_means_of_the_shares_make_the_mean_of_the_global_batch(
    world: int, n: int
) -> None:
    values = np.random.default_rng(n).standard_normal(n)
    shares = [GlobalBatches(n, 6, seed=1, rank=r, world=world) for r in range(world)]
    assert {len(list(sampler)) for sampler in shares} == {
        len(GlobalBatches(n, 6, seed=1))
    }  # none waits for another in vain
    for number, batch in enumerate(GlobalBatches(n, 6, seed=1)):
        means = [
            values[[i for _, i in list(sampler)[number]]].mean() * sampler.weight(number)
            for sampler in shares
        ]
        assert np.mean(means) == pytest.approx(values[[i for _, i in batch]].mean(), abs=1e-12)
        assert shares[0].size(number) == len(batch)
        counted = [
            i for sampler in shares if sampler.weight(number) for _, i in list(sampler)[number]
        ]
        assert sorted(counted) == sorted(
            i for _, i in batch
        )  # a stand-in for an empty share counts nothing


def test_every_epoch_has_another_order_and_evaluation_keeps_it() -> None:
    sampler = GlobalBatches(50, 50, seed=0)
    first = next(iter(sampler))
    sampler.set_epoch(1)
    assert [i for _, i in first] != [i for _, i in next(iter(sampler))]
    assert [i for batch in GlobalBatches(5, 2, seed=None) for _, i in batch] == [0, 1, 2, 3, 4]


def test_workers_give_the_same_batches(recordings: Recordings) -> None:
    data = SignalWindows(recordings, SAMPLES, recordings.ch_names, noisy=True, seed=5)
    for here, there in zip(loader(data, 2, 0), loader(data, 2, 0, workers=2), strict=True):
        assert all((a == b).all() for a, b in zip(here, there, strict=True))


def test_a_generator_belongs_to_all_of_its_key() -> None:
    """Word, numbers, their order and how many they are."""
    keys = [
        (word, *numbers)
        for word in ("order", "noise", "noise1")
        for numbers in ((), (0,), (1,), (0, 0), (1, 0), (0, 1), (1, 2), (2, 1), (1, 2, 0), (12,))
    ]
    drawn = {key: generator(*key).integers(1 << 60) for key in keys}
    assert len(set(drawn.values())) == len(keys)
    assert all(generator(*key).integers(1 << 60) == number for key, number in drawn.items())


def test_no_two_purposes_share_random_numbers(recordings: Recordings) -> None:
    """Order of an epoch, and step and noise of its first sample: once one stream of numbers."""
    view = pd.DataFrame(
        {"recording": ["a"], "start_sample": 0, "n_times": 500, "row": 0, "channel_id": 0}
    )
    noise = Denoising(recordings, view, 50, seed=3)[[(2, 0)]].noise.numpy().ravel()
    forward = SignalWindows(recordings, SAMPLES, recordings.ch_names, noisy=True, seed=3)[[(2, 0)]]
    drawn_for_order = generator("order", 3, 2).standard_normal(500, dtype=np.float32)
    for one, other in itertools.combinations(
        [noise, forward.noise.numpy().ravel()[:500], drawn_for_order], 2
    ):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.2


@pytest.mark.parametrize(
    ("dtype", "error"), [("float32", 0.0), ("float16", 5e-4), ("int8", 1 / 254)]
)
def test_stored_tokens_come_back(
    tmp_path, recordings: Recordings, dtype: str, error: float
) -> None:  # noqa: ANN001
    folder = tmp_path / "latents"
    tokens = (
        np.random.default_rng(1).standard_normal((5, 4, 3, 1, 8)).astype(np.float32)
    )  # a: 2 channels, b: 1, a: 2
    windows = SAMPLES.drop(columns="label").assign(
        shard=[0, 0, 1], row=[0, 2, 0], n_channels=[2, 1, 2]
    )
    with artifacts.building(folder, "latents", {"latents": {"dtype": dtype}}, {}):
        assert not shard_is_done(folder, 0, dtype)
        write_shard(folder, 0, tokens[:3], dtype)
        write_shard(folder, 1, tokens[3:], dtype)
        assert shard_is_done(folder, 0, dtype)
        artifacts.write_table(folder / "windows.parquet", windows)
        artifacts.finish(folder)
    batch = CachedTokens(
        TokenStore(folder), recordings.table, SAMPLES, recordings.ch_names, slice(1, 3)
    )[[(0, 0), (0, 1), (0, 2)]]
    assert batch.data.shape == (3, 2, 3, 1, 2, 8)  # batch, block, pool, query, channel, feature
    limit = error * np.abs(tokens).max()
    np.testing.assert_allclose(
        batch.data[0].permute(3, 0, 1, 2, 4).numpy(), tokens[:2, 1:3], atol=limit
    )
    np.testing.assert_allclose(batch.data[1, ..., 1, :].numpy(), tokens[2, 1:3], atol=limit)
    assert (
        batch.mask.tolist() == [[True, True], [False, True], [True, True]]
        and (batch.data[1, ..., 0, :] == 0).all()
    )


def test_in_8_bit_features_are_exact_to_a_part_of_their_own_spread(
    tmp_path,
) -> None:  # noqa: ANN001
    """One feature is a thousand times as large as the others: their error must not be that of its
    numbers.
    """
    rows = np.random.default_rng(0).standard_normal((40, 2, 5, 1, 16)).astype(np.float32)
    rows[..., 3] = 1000 + rows[..., 3]
    rows[..., 4] = 7.0  # does not vary
    table = pd.DataFrame(
        {
            "recording": ["a"],
            "start_sample": 0,
            "n_times": 1000,
            "shard": 0,
            "row": 0,
            "n_channels": 40,
        }
    )
    with artifacts.building(tmp_path / "latents", "latents", {"latents": {"dtype": "int8"}}, {}):
        write_shard(tmp_path / "latents", 0, rows, "int8")
        artifacts.write_table(tmp_path / "latents" / "windows.parquet", table)
        artifacts.finish(tmp_path / "latents")
    found = TokenStore(tmp_path / "latents").read(("a", 0, 1000))
    largest = np.abs(
        (rows - rows.mean((0, 2), keepdims=True))
        / np.maximum(rows.std((0, 2), keepdims=True), 1e-9)
    ).max()
    assert np.abs(found - rows).max(axis=(0, 1, 2, 3)).max() <= largest * 1.1 / 254 + 1e-4
    assert (found[..., 4] == 7.0).all()


def test_a_window_that_was_not_cached_is_named(tmp_path, recordings: Recordings) -> None:  # noqa: ANN001
    test_stored_tokens_come_back(tmp_path, recordings, "float32", 0.0)
    other = SAMPLES.assign(start_sample=[0, 1200, 2500])
    with pytest.raises(UserError, match="sample 0 of a"):
        CachedTokens(
            TokenStore(tmp_path / "latents"),
            recordings.table,
            other,
            recordings.ch_names,
            slice(None),
        )
