"""The same recordings from any number of processes, here or on a Dask cluster."""

from __future__ import annotations

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


def test_a_recording_that_kills_its_worker_on_a_cluster_costs_only_itself(
    cluster: LocalCluster,
) -> None:
    found = dict(map_unordered(work, list(range(8)), cluster=cluster.scheduler_address))
    assert {k: v for k, v in found.items() if k not in (3, 5)} == {
        k: k * k for k in range(8) if k not in (3, 5)
    }
    assert (
        isinstance(found[3], UserError)
        and isinstance(found[5], UserError)
        and str(found[5]) == KILLED
    )


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nowhere"])
def test_a_cluster_that_is_not_there_is_one_line(address: str) -> None:
    with pytest.raises(UserError, match=f"run.cluster={address}: no dask scheduler answers there"):
        list(map_unordered(work, [1], cluster=address))
