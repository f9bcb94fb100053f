PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow soak corpus lint format bench support gallery bench-brats bench-methods docs clean

demo: .venv/.ready
	$(BIN)/medxai demo

test: .venv/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup -m "not slow and not soak"

test-slow: .venv/.ready
	$(BIN)/python -m pytest -m slow

soak: .venv/.soak
	$(BIN)/python -m pytest -m soak -rP --show-capture=stdout

corpus: .venv/.ready
	$(BIN)/python -m benchmarks.corpus

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.ready
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.cams
	$(BIN)/python -m benchmarks.masking
	$(BIN)/python -m benchmarks.bottleneck $(if $(PEER),--peer $(PEER))
	$(BIN)/python -m benchmarks.faithfulness
	$(BIN)/python -m benchmarks.evaluator

support: .venv/.ready
	$(BIN)/python -m benchmarks.support

gallery: .venv/.ready
	$(BIN)/python -m benchmarks.gallery

bench-brats: .venv/.ready
	$(BIN)/python -m benchmarks.brats_patches

bench-methods: .venv/.ready
	$(BIN)/python -m benchmarks.brats_methods
	$(BIN)/python -m benchmarks.lidc_mosaic
	$(BIN)/python -m benchmarks.lidc_regression --mosaics 20

docs: .venv/.docs
	$(BIN)/sphinx-build -W -b html docs docs/_build/html

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "medxai needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps grad-cam
	touch $@

.venv/.soak: .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[soak]"
	touch $@

.venv/.docs: .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[docs]"
	touch $@

clean:
	rm -rf .venv build dist docs/_build medxai-demo
