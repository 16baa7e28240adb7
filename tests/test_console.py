"""How times, sizes and reasons are written, once for all of the package."""

from __future__ import annotations

import pytest

from eegdm.console import clock, file_size
from eegdm.errors import UserError, failure_reason, one_line


@pytest.mark.parametrize(
    ("seconds", "text", "with_tenths"),
    [
        (0, "0:00", "0:00"),
        (0.5, "0:00", "0:00.5"),
        (59.96, "1:00", "1:00"),
        (61.25, "1:01", "1:01.2"),
        (3599, "59:59", "59:59"),
        (3599.9, "1:00:00", "59:59.9"),
        (3600, "1:00:00", "1:00:00"),
        (3661.5, "1:01:02", "1:01:01.5"),
        (86_399, "23:59:59", "23:59:59"),
        (360_000, "100:00:00", "100:00:00"),
    ],
)
def test_a_time_in_a_recording(seconds: float, text: str, with_tenths: str) -> None:
    assert (clock(seconds), clock(seconds, tenths=True)) == (text, with_tenths)


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1.5 * 2**20, "1.5 MiB"),
        (2**30, "1.0 GiB"),
        (2**40, "1.0 TiB"),
        (2048 * 2**40, "2048.0 TiB"),
    ],
)
def test_a_number_of_bytes(n_bytes: float, text: str) -> None:
    assert file_size(n_bytes) == text


def test_reasons_are_one_line() -> None:
    assert one_line(ValueError("two\n  lines\tand tabs")) == "two lines and tabs"
    assert one_line(ValueError("x" * 300)) == "x" * 200
    assert one_line(KeyError()) == failure_reason(KeyError()) == "KeyError"
    assert failure_reason(UserError("as\nit is " + "x" * 600)) == "as it is " + "x" * 600
    assert failure_reason(KeyError("hand")) == "KeyError: 'hand'"
