"""One failure is one result; the rest goes on."""

from __future__ import annotations

import os
import signal

import pytest

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


def test_nothing_to_do_is_no_fault() -> None:
    assert list(each(work, [])) == []
