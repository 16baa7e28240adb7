"""CHB-MIT's own annotations: a summary per patient (text) and one `.edf.seizures` per recording
with seizures (binary).

Summaries decide. The two agree on all 198 seizures but one: chb24_21's start is 2804 s in the
summary and 2404 s in the binary.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from eegdm.data.events import Event, read_text, shown
from eegdm.errors import UserError

SEIZURE_LABEL = "seizure"
SeizureIntervals = list[tuple[float, float]]
"""(start, end) of each seizure, in s from the start of the recording."""

# Every line that the 24 summaries hold. Some number seizures and some do not, and chb09 numbers an
# end wrongly, so the number is not read. Clock times run past 24:00 and are absent in chb24;
# nothing here depends on them.
_LINE = re.compile(
    r"File Name: *(?P<file>\S+\.edf)"
    r"|Number of Seizures in File: *(?P<count>\d{1,4})"
    r"|Seizure (?:\d{1,4} )?Start Time: *(?P<start>\d{1,7}) seconds"
    r"|Seizure (?:\d{1,4} )?End Time: *(?P<end>\d{1,7}) seconds"
    r"|(?P<other>\*+|Data Sampling Rate: *\d+ Hz|Channels in EDF Files:|Channels changed:"
    r"|Channel \d+: *\S*|File (?:Start|End) Time: *\d{1,2}:\d{2}:\d{2})",
    re.ASCII,
)


@dataclass
class _Entry:
    """What a summary says of one recording, so far."""

    count: int | None = None
    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)


def read_seizures_of(file: Path, summary: Path) -> list[Event]:
    """Return the seizures of one recording as its patient's summary has them.

    A summary that lists recordings without seizures lists all recordings; chb24's lists only those
    with seizures. An `.edf.seizures` file beside the recording must hold as many seizures.

    Raises:
        UserError: a file is damaged, the two disagree in number, or the summary does not know the
            recording.
    """
    known = read_summary(summary)
    # A summary with a recording of no seizures is one that lists every recording.
    if file.name not in known and not all(known.values()):
        raise UserError(f"{summary}: does not list {file.name}, so that its seizures are not known")
    intervals = known.get(file.name, [])
    binary = file.with_name(f"{file.name}.seizures")
    if binary.is_file() and len(read_seizures(binary)) != len(intervals):
        raise UserError(
            f"{binary}: holds {len(read_seizures(binary))} seizures, {summary.name}"
            f" {len(intervals)}; download both anew"
        )
    return [Event(None, start, end - start, SEIZURE_LABEL) for start, end in intervals]


def read_summary(path: Path) -> dict[str, SeizureIntervals]:
    """Read a `chbNN-summary.txt`: the seizures of each recording that it lists, by file name, in
    the file's order.

    Raises:
        UserError: a line is not one that summaries have, starts and ends do not alternate, an end
            is not after its start, a recording is listed twice, or the number of its seizures is
            not the number declared.
    """
    entries: dict[str, _Entry] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        try:
            _take(line.strip(), entries)
        except UserError as fault:
            raise UserError(f"{path}:{number}: {fault}") from fault
    if not entries:
        raise UserError(f"{path}: names no recording; it should be a chbNN-summary.txt of CHB-MIT")
    return {name: _seizure_intervals(path, name, entry) for name, entry in entries.items()}


def _take(line: str, entries: dict[str, _Entry]) -> None:
    """Add what one line says to the entry of the recording named last."""
    if not line:
        return
    match = _LINE.fullmatch(line)
    if match is None:
        raise UserError(f"{shown(line)} is not a line of a CHB-MIT summary")
    if match["file"]:
        if match["file"] in entries:
            raise UserError(f"lists {shown(match['file'])} twice")
        entries[match["file"]] = _Entry()
    elif not match["other"]:
        if not entries:
            raise UserError(f"{shown(line)} comes before the first File Name")
        _take_seizure(match, entries[next(reversed(entries))])


def _take_seizure(match: re.Match[str], entry: _Entry) -> None:
    n_open = len(entry.starts) - len(entry.ends)
    if match["count"]:
        if entry.count is not None:
            raise UserError("declares the number of seizures twice")
        entry.count = int(match["count"])
    elif match["start"]:
        if n_open:
            raise UserError("a seizure starts before the last has ended")
        entry.starts.append(float(match["start"]))
    else:
        if not n_open or float(match["end"]) <= entry.starts[-1]:
            raise UserError("a seizure ends that has not started before")
        entry.ends.append(float(match["end"]))


def _seizure_intervals(path: Path, name: str, entry: _Entry) -> SeizureIntervals:
    if not entry.count == len(entry.starts) == len(entry.ends):
        raise UserError(
            f"{path}: declares {entry.count} seizures for {name} and gives {len(entry.starts)}"
            f" starts and {len(entry.ends)} ends"
        )
    return list(zip(entry.starts, entry.ends, strict=True))


# ---------------------------------------------------------------------------------- .edf.seizures

# The binary is WFDB's "MIT format" (https://wfdb.io/annot, annot(5)): little-endian 16-bit words of
# a 6-bit code and a 10-bit number that counts samples since the mark before. Codes used by CHB-MIT:
_CODE_NOT_QRS, _CODE_NOTE, _CODE_START, _CODE_END, _CODE_SKIP, _CODE_AUX = 0, 22, 32, 33, 59, 63
_RESOLUTION = re.compile(rb"## time resolution: (\d{1,5})", re.ASCII)


def read_seizures(path: Path) -> SeizureIntervals:
    """Read an `.edf.seizures` file.

    Raises:
        UserError: the file is not whole, or holds anything but starts and ends of seizures in turn.
    """
    try:
        marks, text = _seizure_marks(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from error
    except struct.error as error:
        raise UserError(f"{path}: is not an .edf.seizures file, or was cut off") from error
    rate = _RESOLUTION.fullmatch(text)
    if rate is None or not int(rate[1]):
        raise UserError(f"{path}: does not say how many samples a second has")
    if [code for code, _ in marks] != [_CODE_START, _CODE_END] * (len(marks) // 2):
        raise UserError(f"{path}: starts and ends of seizures do not alternate")
    # Files of several seizures list them in time, so a time that falls is a damaged file.
    samples = [sample for _, sample in marks]
    if any(b <= a for a, b in pairwise([-1, *samples])):
        raise UserError(f"{path}: times do not rise")
    times = [sample / int(rate[1]) for sample in samples]
    return list(zip(times[::2], times[1::2], strict=True))


def _seizure_marks(data: bytes) -> tuple[list[tuple[int, int]], bytes]:
    """Return the (code, sample) of each seizure's start and end, and the text of the file's first
    note.
    """
    marks: list[tuple[int, int]] = []
    sample, text = 0, b""
    for code, number, payload in _wfdb_words(data):
        if code == _CODE_AUX:
            text = text or payload
        elif code == _CODE_SKIP:
            sample += number
        elif code in (_CODE_NOTE, _CODE_NOT_QRS, _CODE_START, _CODE_END):
            sample += number
            marks += [(code, sample)] if code in (_CODE_START, _CODE_END) else []
        else:
            raise struct.error(f"code {code} is none of CHB-MIT's")
    return marks, text


def _wfdb_words(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (code, number, text) of each mark up to the closing word 0.

    The long word after a skip has its high half first, as on a PDP-11.
    """
    at = 0
    while word := struct.unpack_from("<H", data, at)[0]:
        at += 2
        code, number, payload = word >> 10, word & 1023, b""
        if code == _CODE_SKIP:
            high, low = struct.unpack_from("<hH", data, at)
            number, at = (high << 16) + low, at + 4
        elif code == _CODE_AUX:
            # Words begin at even bytes, so a text of odd length is followed by a filler.
            payload, at = data[at : at + number], at + number + number % 2
        yield code, number, payload
    if at + 2 != len(data):
        raise struct.error("data follow the closing word")
