"""The same recordings from any number of processes, here or on a Dask cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import LocalCluster

from eegdm import artifacts
from eegdm.errors import UserError
from eegdm.executor import KILLED, map_unordered
from stages.tiny import command_line
from test_executor import work

pytestmark = pytest.mark.ci


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        yield cluster


def test_the_number_of_workers_and_a_cluster_change_no_byte(
    corpus: Path, cluster: LocalCluster, tmp_path: Path
) -> None:
    found = {}
    for name, how in {
        "one": "workers=1",
        "three": "workers=3",
        "dask": f"cluster={cluster.scheduler_address}",
    }.items():
        done = command_line(
            "preprocess", "corpus=tuev", f"source={corpus}", f"root={tmp_path / name}", how
        )
        assert done.returncode == 0, done.stderr
        found[name] = artifacts.open_artifact(tmp_path / name / "tuev" / "base" / "recordings")
    assert found["one"].files == found["three"].files == found["dask"].files
    assert len({artifact.fingerprint for artifact in found.values()}) == 1


def unhurried_work(item: int) -> int:
    if item != 5:
        time.sleep(1)
    return work(item)


def test_a_recording_that_kills_its_worker_on_a_cluster_costs_only_itself() -> None:
    """The scheduler blames all that a killed worker had: here two recordings, time and again."""
    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None
    ) as cluster:
        items, address = [5, 1, 2, 3], cluster.scheduler_address
        found = dict(map_unordered(unhurried_work, items, cluster=address))
    assert (found[1], found[2]) == (1, 4)
    assert isinstance(found[3], UserError) and str(found[3]) == "three is refused"
    assert isinstance(found[5], UserError) and str(found[5]) == KILLED


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nowhere"])
def test_a_cluster_that_is_not_there_is_one_line(address: str) -> None:
    with pytest.raises(UserError, match=f"run.cluster={address}: no dask scheduler answers there"):
        list(map_unordered(work, [1], cluster=address))
