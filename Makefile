# `make all` needs Python 3.11, git and make. Every target works in the environment .venv, which it makes if need be.
PYTHON ?= python3.11
VENV := .venv
READY := $(VENV)/.ready
SNAKEMAKE := snakemake --cores all --quiet rules host
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: all demo test test-all test-fast docs record experiments lint clean

all: $(READY)
	$(SNAKEMAKE) -- all
	@echo "Report: results/report.html"

demo: $(READY)
	$(SNAKEMAKE) --configfile config/demo.yaml -- all
	@echo "Report: demo/results/report.html"

test: $(READY)
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not exhaustive"

test-all: $(READY)
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# A first answer within a minute and a half: without what is marked slow, trains, attacks a workspace or writes reports.
test-fast: $(READY)
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not exhaustive" \
		--ignore tests/training --ignore tests/trust --ignore tests/reporting/test_report.py

# The documentation site, in site/.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

# Put the finished results under DVC and commit the record.
record: $(READY)
	dvc repro
	git add dvc.lock
	git diff --cached --quiet -- dvc.lock || git commit --quiet -m "Record results" -- dvc.lock

experiments: $(READY)
	vlalign experiments

lint: $(READY)
	ruff check .
	ruff format --check .
	snakefmt --check workflow
	mypy
	lint-imports --no-cache

clean:
	rm -rf $(VENV) demo studies test-run photographs-run logs checkpoints site

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@
