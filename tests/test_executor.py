"""One failure is one result; the rest goes on."""

from __future__ import annotations

import functools
import multiprocessing
import multiprocessing.connection
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from eegdm import artifacts, executor
from eegdm.data.synthetic.layouts import write_tuev
from eegdm.errors import UserError
from eegdm.executor import KILLED, map_unordered
from eegdm.stages import preprocess, run_stage


def work(item: int) -> int:
    if item == 3:
        raise UserError("three is refused")
    if item == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return item * item


@pytest.mark.parametrize("workers", [1, 3])
def test_faults_and_killed_workers_cost_only_their_own_item(workers: int) -> None:
    found = dict(map_unordered(work, list(range(8)), workers))
    assert {k: v for k, v in found.items() if k not in (3, 5)} == {
        k: k * k for k in range(8) if k not in (3, 5)
    }
    assert isinstance(found[3], UserError) and str(found[3]) == "three is refused"
    assert isinstance(found[5], UserError) and str(found[5]) == KILLED


def test_a_killed_worker_does_not_make_the_rest_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are slow to start: of many items only those that were under way are tried again in
    a pool of their own.
    """
    pools = []
    in_pool: Callable[..., Any] = executor._in_pool
    monkeypatch.setattr(executor, "_in_pool", lambda *args: pools.append(args[2]) or in_pool(*args))
    results = list(map_unordered(work, list(range(4, 40)), 2))
    assert sorted(item for item, _ in results) == list(range(4, 40))
    assert [item for item, result in results if isinstance(result, Exception)] == [5]
    assert pools[0] == 2 and pools.count(1) <= 2


def test_a_signal_waits_until_a_worker_has_its_orders() -> None:
    before, reached = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt), executor.deferred_signals():
        signal.raise_signal(signal.SIGINT)
        reached.append(True)
    assert reached and signal.getsignal(signal.SIGINT) is before is signal.default_int_handler


def test_nothing_to_do_is_no_fault() -> None:
    assert list(map_unordered(work, [])) == []


def slow(item: int) -> int:
    time.sleep(0 if item == 0 else 60)
    return os.getpid()


@pytest.mark.parametrize("end", ["closed", "raised"])
def test_ending_early_ends_the_own_workers_and_no_other_child_of_the_program(end: str) -> None:
    """A notebook may have children of its own, begun before or meanwhile."""
    start = multiprocessing.get_context("spawn").Process
    others = [start(target=time.sleep, args=(60,))]
    others[0].start()
    begun = time.monotonic()
    found = map_unordered(slow, list(range(4)), 2)
    _, worker = next(found)
    others.append(start(target=time.sleep, args=(60,)))
    others[1].start()
    if end == "closed":
        found.close()
    else:
        with pytest.raises(ZeroDivisionError):
            found.throw(ZeroDivisionError)
    try:
        ended = multiprocessing.connection.wait([o.sentinel for o in others], timeout=1)
        assert ended == []
        assert time.monotonic() - begun < 50
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
    finally:
        for other in others:
            other.kill()
            other.join()


# ------------------------------------------------------------------------------ on a dask cluster


def once(item: int, folder: Path) -> int:
    """Kill the worker at item 2 the first time."""
    if item == 2 and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item * item


@pytest.mark.ci
def test_a_cluster_does_the_same_and_survives_its_workers(cluster: str, tmp_path: Path) -> None:
    assert dict(
        map_unordered(functools.partial(once, folder=tmp_path), list(range(8)), cluster=cluster)
    ) == {k: k * k for k in range(8)}
    assert (tmp_path / "killed").exists()
    found = dict(map_unordered(work, list(range(8)), cluster=cluster))
    assert {k: v for k, v in found.items() if k not in (3, 5)} == {
        k: k * k for k in range(8) if k not in (3, 5)
    }
    assert isinstance(found[3], UserError) and str(found[3]) == "three is refused"
    assert isinstance(found[5], UserError) and str(found[5]) == KILLED


def fatal(job, **_: object) -> None:  # noqa: ANN001
    """Stand in for a library that crashes on one recording."""
    if "aaaaaaab" in job.source.recording:
        os.kill(os.getpid(), signal.SIGKILL)
    preprocess.process_recording(job, **_)


@pytest.mark.ci
@pytest.mark.timeout(600)
def test_preprocess_on_a_cluster_equals_that_on_one_machine(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tuev(tmp_path / "corpus", n_train=3, n_eval=1, minutes=1.0)
    words = ["corpus=tuev", f"source={tmp_path / 'corpus'}"]
    alone = run_stage("preprocess", [*words, f"root={tmp_path / 'alone'}"])
    together = run_stage(
        "preprocess", [*words, f"root={tmp_path / 'together'}", f"cluster={cluster}"]
    )
    assert (
        artifacts.open_artifact(together).fingerprint == artifacts.open_artifact(alone).fingerprint
    )

    monkeypatch.setattr(
        preprocess,
        "map_unordered",
        lambda function, *rest: map_unordered(functools.partial(fatal, **function.keywords), *rest),
    )
    folder = run_stage("preprocess", [*words, f"root={tmp_path / 'killed'}", f"cluster={cluster}"])
    table = pd.read_parquet(folder / "recordings.parquet").set_index("recording")
    (lost,) = table.index[table.status == "failed"]
    assert "aaaaaaab" in lost and table.reason[lost] == KILLED and (table.status == "ok").sum() == 3
    monkeypatch.undo()
    again = run_stage(
        "preprocess", [*words, f"root={tmp_path / 'killed'}", f"cluster={cluster}"]
    )  # another try, not another result
    assert artifacts.open_artifact(again).fingerprint == artifacts.open_artifact(alone).fingerprint
