"""Describe the EEG that `mini` is meant for, in its `config.json`: band powers of three open sets.

    python examples/evidence/population.py --data ../shared/data

Rest of EEGMAT's 24 people, eegmmidb (subject 1, runs 3 to 10) and the CHB-MIT excerpts, all under
ODC-By 1.0. `--check DIR` prints, for each recording below DIR, the share outside that population.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from eegdm import artifacts
from eegdm.checkpoints.load import load
from eegdm.console import run_main
from eegdm.errors import UserError
from eegdm.evaluation.surprise import Population, population_facts
from eegdm.inference.preparation import as_raw, prepare
from eegdm.inference.surprising import SurpriseOptions, powers_of, reading_of
from eegdm.models.locate import CARD_FILE, CONFIG_FILE, PACKAGED

SETS = {
    "EEGMAT": ("people/eegmat", "*_1.edf"),
    "eegmmidb": ("eegmmidb", "*.edf"),
    "CHB-MIT": ("chbmit/edf", "*.edf"),
}
DATA = "open EEG of EEGMAT (24 people at rest), eegmmidb (one person) and CHB-MIT (three patients)"
SECONDS = 900  # of each set, so that none outweighs the others


def powers(file: Path) -> np.ndarray:
    """Log powers of a recording, as `eegdm surprise` computes them."""
    settings, _ = reading_of("mini", SurpriseOptions(missing="drop"))
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(as_raw(file, None, settings.channels), settings, Path(folder))
        return powers_of(prepared, settings.signal.mu)


def spread_evenly(found: list[np.ndarray]) -> list[np.ndarray]:
    """The given number of seconds of a set, evenly from its recordings."""
    each = max(1, SECONDS // len(found))
    return [p[np.unique(np.linspace(0, len(p) - 1, each).round().astype(int))] for p in found]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--check", type=Path, nargs="*", help="print shares and write nothing")
    args = parser.parse_args()
    if args.check:
        population = Population.from_info(load("mini").info)
        assert population is not None
        for folder in args.check:
            shares = []
            for file in sorted(folder.glob("*.edf")):
                try:
                    shares.append(float((population.distance(powers(file)) > 1).mean()))
                    print(f"{file.parent.name}/{file.stem} {shares[-1]:.3f}", flush=True)
                except UserError as error:
                    print(error)
            quartiles = np.quantile(shares, [0, 0.25, 0.5, 0.75, 1]).round(3)
            print(f"{folder}: {len(shares)} recordings, quartiles {quartiles.tolist()}")
        return
    chosen = []
    for folder, pattern in SETS.values():
        files = sorted((args.data / folder).glob(pattern))
        chosen += spread_evenly([powers(file) for file in files])
    facts = population_facts(Population.of(chosen, DATA))
    place = PACKAGED / "mini"
    config = artifacts.read_json(place / CONFIG_FILE)
    artifacts.write_json(place / CONFIG_FILE, {**config, **facts})
    print(facts, f"\nwrote {place / CONFIG_FILE}; name it in {CARD_FILE} too")


if __name__ == "__main__":
    run_main(main)
