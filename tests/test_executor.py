"""One failure is one result; the rest goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from eegdm import executor
from eegdm.errors import UserError
from eegdm.executor import KILLED, each


def work(item: int) -> int:
    if item == 3:
        raise UserError("three is refused")
    if item == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return item * item


@pytest.mark.parametrize("workers", [1, 3])
def test_faults_and_killed_workers_cost_only_their_own_item(workers: int) -> None:
    found = dict(each(work, list(range(8)), workers))
    assert {k: v for k, v in found.items() if k not in (3, 5)} == {k: k * k for k in range(8) if k not in (3, 5)}
    assert isinstance(found[3], UserError) and str(found[3]) == "three is refused"
    assert isinstance(found[5], UserError) and str(found[5]) == KILLED


def test_a_killed_worker_does_not_make_the_rest_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are slow to start: of many items only those that were under way are tried again in a pool of their own."""
    pools = []
    in_pool: Callable[..., Any] = executor._in_pool
    monkeypatch.setattr(executor, "_in_pool", lambda *args: pools.append(args[2]) or in_pool(*args))
    results = list(each(work, list(range(4, 40)), 2))
    assert sorted(item for item, _ in results) == list(range(4, 40))
    assert [item for item, result in results if isinstance(result, Exception)] == [5]
    assert pools[0] == 2 and pools.count(1) <= 2


def test_nothing_to_do_is_no_fault() -> None:
    assert list(each(work, [])) == []
