"""Turn the index of the CHB-MIT excerpts into an events table: python chbmit_excerpts.py INDEX.csv
EVENTS.csv
"""

import sys
from pathlib import Path

import pandas as pd

index = pd.read_csv(sys.argv[1])
onset, end = index.seizure_onset_in_file_s, index.seizure_end_in_file_s
table = pd.DataFrame(
    {
        "file": index.file.map(lambda name: Path(name).name),
        "onset_s": onset,
        "duration_s": end - onset,
        "label": onset.map(
            lambda value: None if pd.isna(value) else "seizure"
        ),  # a file without a seizure is one row without an event
        "subject": index.record.str[:5],
    }
)
Path(sys.argv[2]).parent.mkdir(parents=True, exist_ok=True)
table.to_csv(sys.argv[2], index=False)
