"""A recorder, as another process: it writes a finished EDF or BDF file once more, record after
record, with -1 for their number until the last one is there.

Usage: python recorder.py FINISHED TARGET SECONDS_PER_RECORD [PAUSE_AFTER GO]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from eegdm.data.edf import read_edf_header


def record(
    finished: Path, target: Path, record_s: float, pause_after: int = -1, go: Path = Path()
) -> None:
    """Write the file, with a pause after that many records, until the file ``go`` is there."""
    header, data = read_edf_header(finished), finished.read_bytes()
    fixed = data[: header.data_offset]
    with target.open("wb", buffering=0) as stream:
        stream.write(fixed[:100])
        time.sleep(0.1)  # a header may come in pieces
        stream.write(fixed[100:236] + b"-1      " + fixed[244:])
        for k in range(header.n_records):
            at = header.data_offset + k * header.record_bytes
            half = at + header.record_bytes // 2
            stream.write(data[at:half])  # and so may a record
            time.sleep(record_s)
            stream.write(data[half : at + header.record_bytes])
            while k + 1 == pause_after and not go.exists():
                time.sleep(0.01)
        stream.seek(236)
        stream.write(f"{header.n_records:<8}".encode())


if __name__ == "__main__":
    finished, target, record_s, *pause = sys.argv[1:]
    rest = (int(pause[0]), Path(pause[1])) if pause else ()
    record(Path(finished), Path(target), float(record_s), *rest)
