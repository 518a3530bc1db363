# Everything starts from Python 3.10+ and make: `make demo`, `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo
BUNDLE ?= bundle
PORT ?= 8000
# `make test SLOW=--slow` also runs the tests that take more than a few seconds.
SLOW ?=

.PHONY: demo install test lint serve clean bench bench-extract bench-heads bench-accuracy bench-big \
	bench-precision bench-scale bench-serve

demo: $(VENV)/.installed
	$(BIN)/python scripts/demo.py --out $(DEMO)

install: $(VENV)/.installed

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(SLOW)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

serve: $(VENV)/.installed
	$(BIN)/python -m service --bundle $(BUNDLE) --port $(PORT)

# Need real images and weights in the folder that LESION_TEST_DATA names, and a quiet machine.
bench: bench-extract bench-precision bench-heads bench-accuracy bench-big bench-serve

bench-extract: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.extraction.extract --write

bench-precision: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.extraction.precision --write

bench-heads: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.fitting.heads --write

bench-big: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.fitting.big --write

bench-serve: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.serving.serve --write

bench-accuracy: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.fitting.accuracy --write

# Needs no images and no quiet machine, but Ray: pip install -e '.[cluster]'.
bench-scale: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[cluster]'
	$(BIN)/python -m benchmarks.scale.shards --write
	$(BIN)/python -m benchmarks.scale.growth --write
	$(BIN)/python -m benchmarks.scale.keys

clean:
	rm -rf $(VENV) $(DEMO) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv $(VENV)

# Modules are compiled when first used: most of what is installed never is.
$(VENV)/.installed $(VENV)/.installed-test $(VENV)/.installed-dev: $(VENV)/.installed%: $(VENV)/bin/python setup.cfg pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.$(EXTRA)'
	touch $@ $(INCLUDED)

$(VENV)/.installed-test: EXTRA := [test]
$(VENV)/.installed-test: INCLUDED := $(VENV)/.installed
$(VENV)/.installed-dev: EXTRA := [test,dev]
$(VENV)/.installed-dev: INCLUDED := $(VENV)/.installed $(VENV)/.installed-test
