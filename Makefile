# Each target sets up what it needs in ./.venv on a fresh clone; nothing else is needed than Python >= 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TORCH = $(shell sed -n 's/^torch==//p' requirements.lock)
IN = PYTHONPATH= .versions/$(1)/bin/python
INSTALL = $(IN) -m pip install -q --disable-pip-version-check
# beside a torch without CUDA, the compiled part of PyPI's torchaudio does not load (docs/braindecode.md)
TORCHAUDIO = $(1)/bin/python -c "import torchaudio" 2>/dev/null || rm -f $(1)/lib/python*/site-packages/torchaudio/lib/*.so

.PHONY: demo test test-ci test-versions test-lowest test-newest test-faults lint docs release bench bench-smoke bench-gpu clean help

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## / - /'

demo: $(READY)  ## all five stages on synthetic EEG, then events marked in an unseen recording
	$(BIN)/eegdm demo

test: $(READY)  ## unit tests, golden numbers, one run of each stage; two at a time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not ci and not faults" -n 2 --dist worksteal

test-ci: $(READY)  ## the longer tests, two at a time: every documented command as a user types it, injected faults
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "ci and not faults" -n 2 --dist worksteal

test-versions:  ## one small run of everything on the lowest and, beside it, on the newest versions of the dependencies
	$(MAKE) -j2 test-lowest test-newest

test-lowest:  ## the lowest of these; TORCH=2.4.0 takes the lowest torch too, whose build has CUDA (some GB)
	$(PYTHON) -m venv --clear .versions/lowest
	$(call INSTALL,lowest) torch==$(TORCH)
	$(call INSTALL,lowest) -c requirements-lowest.txt -e '.[dask,slurm,tensorboard,wandb]'
	$(call IN,lowest) tests/versions/smoke.py core
	$(call INSTALL,lowest) -r requirements-lowest-braindecode.txt 'torchaudio<=$(TORCH)' -e '.[braindecode]'
	$(call TORCHAUDIO,.versions/lowest)
	$(call IN,lowest) tests/versions/smoke.py braindecode
	rm -rf .versions/lowest

test-newest:  ## the newest of these, the package as its wheel, with the torch of requirements.lock or TORCH=VERSION; then scoreboards
	$(PYTHON) -m venv --clear .versions/newest
	$(call INSTALL,newest) torch==$(TORCH)
	$(call IN,newest) -m pip wheel -q --disable-pip-version-check --no-deps -w .versions/newest/wheel .
	$(call INSTALL,newest) 'torchaudio<=$(TORCH)' "$$(echo .versions/newest/wheel/eegdm-*.whl)[braindecode,dask,slurm,tensorboard,wandb]"
	$(call TORCHAUDIO,.versions/newest)
	$(call IN,newest) tests/versions/smoke.py core installed braindecode
	# the scoreboards' own code, some of whose dependencies are older than the newest
	$(call INSTALL,newest) torch==$(TORCH) moabb==1.7.2 open-eeg-bench==0.6.0
	$(call IN,newest) -W ignore examples/moabb/run.py
	$(call IN,newest) -W ignore examples/openeegbench.py
	rm -rf .versions/newest

test-faults: $(READY)  ## hours: every stage killed a hundred times, at random and inside every kind of write
	$(BIN)/python -m pytest -m faults -s

lint: $(READY)  ## style and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

docs: $(READY)  ## the site, into dist/site
	$(BIN)/python -m mkdocs build --strict --quiet

release: $(READY)  ## wheel, sdist and their list of materials (CycloneDX), into dist
	rm -rf dist .versions/release && $(PYTHON) -m venv .versions/release
	$(BIN)/python -m build --no-isolation --outdir dist
	$(call INSTALL,release) cyclonedx-bom
	.versions/release/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible -o dist/eegdm.cdx.json requirements.lock
	cd dist && sha256sum * | tee SHA256SUMS

bench: $(READY)  ## every stage against a plain implementation and this machine's floor (about 25 minutes)
	PYTHONPATH=. $(BIN)/python -m benchmarks --out runs/benchmarks

bench-smoke: $(READY)  ## the same on tiny models: does everything run and agree?
	PYTHONPATH=. $(BIN)/python -m benchmarks --smoke --out runs/benchmarks-smoke

bench-gpu: $(READY)  ## the same on a GPU, by device events
	PYTHONPATH=. $(BIN)/python -m benchmarks --device cuda --out runs/benchmarks-gpu

$(READY): requirements.lock pyproject.toml
	@echo "Installing EEGDM and what it stands on (about 3 GB on disk) into $(abspath $(VENV)); nothing outside that folder is touched."
	@echo "torch comes first: set it up there by hand beforehand if this machine needs a particular build of it."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	# says that it needs Python 3.12, and runs with 3.11
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --ignore-requires-python szcore-evaluation==0.0.7
	$(call TORCHAUDIO,$(VENV))
	@touch $(READY)

clean:  ## remove what make made (not runs/)
	rm -rf $(VENV) .versions .pytest_cache .ruff_cache .mypy_cache dist
