# make demo    the bundled model on the bundled sample: scores, a picture, and napari when there is a display
# make test    formatting, lint, types, the site and every test
# make help    the rest
#
# The first call builds .venv from a Python 3.11 or later (PYTHON=... names another one).

VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
EXTRAS ?= train,pretrained,qt,docs,dev
OUTPUT ?= demo

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SCREEN := $(if $(DISPLAY)$(WAYLAND_DISPLAY),,xvfb-run -a -s "-screen 0 1600x1000x24")
# A file's tests stay together (its fixtures are made once); tests/conftest.py orders the files.
TWO := -n 2 --dist loadfile --no-loadscope-reorder
SOURCES := napari_hidiff training tests $(wildcard benchmarks docs)

.DEFAULT_GOAL := help
.PHONY: help setup demo test quick lint format types pytest mutants docs pages pictures build clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(STAMP)  ## create .venv with everything, in the tested versions

$(STAMP): setup.cfg constraints.txt
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "napari-hidiff needs Python 3.11 or later; name one with: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS)]"
	@touch $@

demo: $(STAMP)  ## run the bundled model on the bundled sample (OUTPUT=folder of the picture)
	$(BIN)/napari-hidiff demo --output $(OUTPUT)

# Types and site take a core each.
test: lint  ## formatting, lint, types, the site and every test
	$(MAKE) --no-print-directory -j 2 types docs
	$(MAKE) --no-print-directory pytest

quick: $(STAMP)  ## the tests that take seconds, on two processes
	$(BIN)/python -m pytest -q -m "not slow" $(TWO)

lint: $(STAMP)  ## ruff: rules and formatting
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

format: $(STAMP)  ## mend what ruff can mend
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

# training/ is installed as napari_hidiff.training: the types are checked in that layout.
types: $(STAMP)  ## mypy
	@rm -rf build/types && mkdir -p build/types
	@cp -Rp napari_hidiff build/types/napari_hidiff && cp -Rp training build/types/napari_hidiff/training
	cd build/types && $(abspath $(BIN))/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache -p napari_hidiff

pytest: $(STAMP)  ## every test, on two processes
	$(BIN)/python -m pytest -q --durations=25 $(TWO)

# The module is changed in place and put back: best in a copy, or with everything committed.
mutants: $(STAMP)  ## single changes of MODULE=file that TESTS="files" do not notice (SAMPLE=30 SEED=0)
	@$(BIN)/python -c "import cosmic_ray" 2>/dev/null || \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[mutation]"
	$(BIN)/python tests/mutants.py $(MODULE) $(TESTS) --sample $(or $(SAMPLE),30) --seed $(or $(SEED),0)

docs: $(STAMP)  ## the site, in build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

pages: $(STAMP)  ## the pages of docs/ that commands, models and results write
	$(BIN)/python docs/make_pages.py

# On a virtual screen where there is none.
pictures: $(STAMP)  ## the pictures and the animation of the site and the README, from the real window
	$(SCREEN) $(BIN)/python docs/make_screenshot.py
	$(SCREEN) $(BIN)/python docs/make_tour.py
	$(SCREEN) $(BIN)/python docs/make_volume.py
	$(SCREEN) $(BIN)/python docs/make_folder.py
	$(SCREEN) $(BIN)/python docs/make_compare.py
	$(SCREEN) $(BIN)/python docs/make_own_model.py

# Metadata and the rendering of the README are checked as the package index does; it takes 100 MB,
# we allow 20.
build: $(STAMP)  ## source archive and wheel in dist/, checked for metadata, rendering and size
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*
	@large=$$(find dist -type f -size +20000k); test -z "$$large" || \
	    { echo "over 20 MB: $$large" >&2; exit 1; }
	@ls -l dist

clean:  ## remove what the targets above made, but for .venv
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache *.egg-info
