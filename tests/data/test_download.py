"""Downloads from a real server on this machine that stalls, breaks off, corrupts, refuses; and that
is left in the middle by a kill.
"""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from eegdm.data import download as module
from eegdm.data.download import DATABASES, SUMS, Patience, download_database
from eegdm.errors import UserError
from stages.tiny import command_line, one_thread

HASTE = Patience(timeout_s=0.3, attempts=3, pause_s=0.01)
SIZE = 300_000
NAMES = (
    "SUBJECT-INFO",
    "chb01/chb01-summary.txt",
    "chb01/chb01_01.edf",
    "chb01/chb01_03.edf",
    "chb01/chb01_03.edf.seizures",
    "chb02/chb02_16+.edf",
)
EDF = "chb01/chb01_03.edf"


class Server(ThreadingHTTPServer):
    """Serves made-up files; ``faults`` says what happens to the first requests for a file."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hold(NAMES)
        self.faults: dict[str, list[str]] = {}
        self.asked: list[tuple[str, int]] = []  # file, first byte
        self.sent: dict[str, int] = {}
        self.meeting = threading.Barrier(2, timeout=10)

    def hold(self, names: Sequence[str]) -> None:
        """Make a database of files of these names."""
        rng = np.random.default_rng(0)
        self.files = {name: rng.bytes(SIZE if name.endswith(".edf") else 500) for name in names}
        self.files[SUMS] = "".join(
            f"{hashlib.sha256(data).hexdigest()} {name}\n" for name, data in self.files.items()
        ).encode()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        try:
            self.answer(self.path[1:])
        except OSError:  # the client went away
            self.close_connection = True

    def answer(self, name: str) -> None:
        queue = self.server.faults.get(name, [])
        fault = queue.pop(0) if queue else ""
        data = self.server.files.get(name)
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted and fault != "ignores ranges" else 0
        self.server.asked.append((name, start))
        if data is None or fault.isdigit():
            self.send_error(int(fault or 404))
            return
        if start >= len(data):
            self.send_error(416)
            return
        if fault == "meets another":
            self.server.meeting.wait()
        if fault == "corrupts":
            data = data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        stop = (
            start + (len(data) - start) // 2
            if fault in ("stalls", "breaks off", "trickles")
            else len(data)
        )
        self.send(name, data[start:stop])
        if fault == "stalls":
            time.sleep(1)
        while fault == "trickles":
            self.send(name, data[stop : (stop := stop + 1)])
            time.sleep(0.05)
        self.close_connection = True

    def send(self, name: str, data: bytes) -> None:
        for at in range(0, len(data), 10_000):
            self.wfile.write(data[at : at + 10_000])
            self.server.sent[name] = self.server.sent.get(name, 0) + len(data[at : at + 10_000])


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def assert_complete(folder: Path, server: Server, names: tuple[str, ...] = NAMES) -> None:
    found = {
        file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()
    } - {".lock"}
    assert found == {SUMS, *names}  # and nothing half-written
    assert all((folder / name).read_bytes() == server.files[name] for name in names)


def download(folder: Path, server: Server, *patients: str, connections: int = 3) -> Path:
    wanted = patients or ("chb01", "chb02")
    return download_database("chbmit", folder, wanted, server.url, connections, HASTE)


# -------------------------------------------------------------------------------------- PhysioNet


def test_patients_that_were_asked_for_come_over_several_connections(tmp_path, server, capsys):
    server.faults = {
        name: ["meets another"]
        for name in NAMES
        if name.startswith("chb01") and name.endswith(".edf")
    }
    download(tmp_path, server, "chb01", connections=2)  # would wait for ever over one connection
    assert_complete(tmp_path, server, tuple(name for name in NAMES if not name.startswith("chb02")))
    assert (
        "5 of 5 files are there and have their checksum; 587.4 KiB came in"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("name", "subject", "wanted", "others"),
    [
        (
            "siena",
            "PN10",
            ("RECORDS", "subject_info.csv", "PN10/PN10-4.5.6.edf", "PN10/Seizures-list-PN10.txt"),
            ("LICENSE.txt", "PN11/PN11-1.edf", "PN11/Seizures-list-PN11.txt"),
        ),
        (
            "eegmmidb",
            "S001",
            ("RECORDS", "S001/S001R01.edf", "S001/S001R01.edf.event"),
            ("64_channel_sharbrough-old.png", "wfdbcal", "S010/S010R01.edf"),
        ),
        (
            "eegmat",
            "Subject00",
            ("RECORDS", "subject-info.csv", "Subject00_1.edf", "Subject00_2.edf"),
            ("README.txt", "Subject01_1.edf"),
        ),
    ],
)
def test_one_subject_of_each_database(tmp_path, server, name, subject, wanted, others):
    server.hold([*wanted, *others])
    download_database(name, tmp_path, [subject], server.url, 2, HASTE)
    assert_complete(tmp_path, server, wanted)
    with pytest.raises(
        UserError, match=f"S110: {DATABASES[name].title} has (PN00|S001|Subject00) to "
    ):
        download_database(name, tmp_path, ["S110"], server.url, 2, HASTE)


def test_finished_files_are_not_fetched_again_and_damaged_ones_are(tmp_path, server):
    download(tmp_path, server)
    server.asked.clear()
    download(tmp_path, server)
    assert server.asked == [(SUMS, 0)]
    (tmp_path / EDF).write_bytes(server.files[EDF][:-1] + b"!")
    download(tmp_path, server)
    assert server.asked[1:] == [(SUMS, 0), (EDF, 0)]
    assert_complete(tmp_path, server)


@pytest.mark.parametrize("fault", ["stalls", "breaks off"])
def test_after_a_stall_or_a_break_the_rest_is_asked_for(tmp_path, server, fault):
    server.faults[EDF] = [
        fault
    ] * 4  # each brings half of what is left, so the attempts do not add up to giving up
    download(tmp_path, server)
    assert_complete(tmp_path, server)
    starts = [start for name, start in server.asked if name == EDF]
    assert len(starts) == 5 and starts[0] == 0 and starts[1] > SIZE // 2 - module._CHUNK_BYTES
    assert SIZE <= server.sent[EDF] < SIZE + 4 * module._CHUNK_BYTES  # hardly a byte comes twice


def test_a_server_without_ranges_sends_all_of_it_again(tmp_path, server):
    server.faults[EDF] = ["breaks off", "ignores ranges"]
    download(tmp_path, server)
    assert_complete(tmp_path, server)


def test_what_comes_corrupted_is_fetched_anew_from_its_first_byte(tmp_path, server):
    server.faults[EDF] = ["corrupts"]
    download(tmp_path, server)
    assert_complete(tmp_path, server)
    assert [start for name, start in server.asked if name == EDF] == [0, 0]


def test_a_part_left_of_something_else_is_found_out(tmp_path, server):
    for name, length in (
        (EDF, 1000),
        ("chb01/chb01_01.edf", SIZE),
        ("chb02/chb02_16+.edf", SIZE + 5),
    ):
        part = (tmp_path / name).with_name(f".{Path(name).name}.part")
        part.parent.mkdir(exist_ok=True)
        part.write_bytes(bytes(length))
    download(tmp_path, server)
    assert_complete(tmp_path, server)


@pytest.mark.parametrize(
    ("faults", "told"),
    [
        (["404"], "404 Client Error"),
        (["503"] * 3, "503 Server Error"),
        (["corrupts"] * 3, "came 3 times with another SHA-256"),
    ],
)
def test_a_file_that_cannot_be_got_costs_only_itself(tmp_path, server, capsys, faults, told):
    server.faults[EDF] = list(faults)
    with pytest.raises(UserError, match="1 of 6 files could not be downloaded"):
        download(tmp_path, server)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "failed" in line]
    assert f"{server.url}{EDF}: " in line and told in line
    assert len([name for name, _ in server.asked if name == EDF]) == len(faults)
    assert (tmp_path / "chb02/chb02_16+.edf").read_bytes() == server.files[
        "chb02/chb02_16+.edf"
    ] and not (tmp_path / EDF).exists()
    download(tmp_path, server)  # the server has recovered
    assert_complete(tmp_path, server)


@pytest.mark.parametrize("status", ["408", "425", "429", "500", "503"])
def test_what_a_server_had_no_time_for_is_asked_for_again(tmp_path, server, status):
    server.faults[EDF] = [status] * 2
    download(tmp_path, server)
    assert_complete(tmp_path, server)
    assert len([name for name, _ in server.asked if name == EDF]) == 3


@pytest.mark.parametrize("status", ["401", "403", "410", "431", "451"])
def test_what_a_server_refuses_is_not_asked_for_again(tmp_path, server, status):
    server.faults[EDF] = [status] * 3
    with pytest.raises(UserError, match="1 of 6 files could not be downloaded"):
        download(tmp_path, server)
    assert len([name for name, _ in server.asked if name == EDF]) == 1


def test_no_server_no_database_unknown_patient(tmp_path, server):
    with pytest.raises(UserError, match="chb25: CHB-MIT has chb01 to chb24"):
        download(tmp_path, server, "chb25")
    with pytest.raises(UserError, match="lists no file of chb03"):
        download(tmp_path, server, "chb03")
    server.files[SUMS] = b"<html>not here</html>\n"
    with pytest.raises(UserError, match=f"{SUMS}:1: '<html>not here</html>' is not a line"):
        download(tmp_path, server)
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match="Connection refused"):
        download(tmp_path, server)


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "chb01/../../x", "chb01/.x", "a/b/c", "chb01\\x", ""]
)
def test_a_list_of_checksums_cannot_lead_elsewhere(tmp_path, server, path):
    server.files[SUMS] += f"{'0' * 64} {path}\n".encode()
    with pytest.raises(UserError, match=f"{SUMS}:7: .* is not a line of a"):
        download(tmp_path / "out", server)
    assert not (tmp_path / "x").exists()


@pytest.mark.ci
def test_a_killed_download_goes_on_where_it_was(tmp_path, server):
    server.faults = {name: ["trickles"] for name in NAMES if name.endswith(".edf")}
    words = [
        "download",
        "chbmit",
        "--patients",
        "chb01,chb02",
        "--out",
        tmp_path,
        "--base-url",
        server.url,
        "--connections",
        6,
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "eegdm", *map(str, words)],
        env=one_thread(),
        stderr=subprocess.DEVNULL,
    )
    parts = {
        name: (tmp_path / name).with_name(f".{Path(name).name}.part") for name in server.faults
    }
    small = [tmp_path / name for name in NAMES if name not in server.faults]
    begun = [*parts.values()]
    wait_until(
        lambda: (
            all(f.is_file() for f in small + begun)
            and all(part.stat().st_size > SIZE // 3 for part in begun)
        )
    )
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    there = {name: part.stat().st_size for name, part in parts.items()}
    server.asked.clear()
    again = command_line(*words)
    assert again.returncode == 0, again.stderr
    assert_complete(tmp_path, server)
    assert sorted(server.asked) == sorted([(SUMS, 0), *there.items()])


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)
