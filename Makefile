# Each target installs what it needs into .venv, on a machine with Python, a C compiler and make.
#   make demo    cut a large image and print the page to open
#   make test    every test, lint and type check
#   make long    the tests that take long, which CI runs too
#   make test-pythons  the tests on the other Pythons found, and on 3.14 and 3.15 from Debian's packages
#   make check   the quick inner loop: what is not marked slow
#   make bench   the benchmarks, kernels and end to end (long)
#   make bench-quick  the main ratios against libvips, in 3 minutes once the images are made
#   make docs    the documentation site, in build/site; warnings are errors
#   make viewers bundle the viewers' scripts, as each build does; fails where it cannot

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
KERNELS := $(wildcard src/fasttile/*.pyx src/fasttile/*.h)

# One process for each processor. pytest-benchmark is not used in tests/, and rejects xdist.
AT_ONCE := -p no:benchmark -n auto --dist worksteal

# Without bytecode files, each program that a test starts would compile the modules again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test long test-pythons check lint browser docs viewers bench bench-quick clean

demo: $(VENV)/demo
	$(BIN)/python bench/demo.py

test: lint browser
	$(BIN)/python -m pytest $(AT_ONCE) -m "not long"

long: $(VENV)/test $(VENV)/docs
	tests/kernels/setup_arm.sh
	tests/package/setup_pythons.sh
	$(BIN)/python -m pytest $(AT_ONCE) -m long

test-pythons: $(VENV)/test
	tests/package/setup_pythons.sh
	FASTTILE_PYTHON_TESTS=all $(BIN)/python -m pytest $(AT_ONCE) tests/package/test_pythons.py

check: lint
	$(BIN)/python -m pytest $(AT_ONCE) -q -x -m "not slow and not long"

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint src/fasttile/*.pyx
	$(BIN)/mypy
	$(BIN)/python tools/check_words.py src tests bench docs README.md Makefile
	cd src && MYPYPATH=. ../$(BIN)/stubtest fasttile._resample fasttile._pages fasttile._files fasttile._colour fasttile._runs

# Install Chromium, nginx, Varnish, the viewers and what runs kernels for Arm, where it is allowed.
browser:
	tests/browser/setup.sh
	tests/serving/setup.sh
	tests/kernels/setup_arm.sh

docs: $(VENV)/docs
	$(BIN)/python tools/fetch_viewers.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

viewers:
	$(PYTHON) tools/fetch_viewers.py --required

bench: $(VENV)/bench
	$(BIN)/python -m compileall -q src/fasttile  # as an installed package is
	$(BIN)/python -m pytest bench/test_kernels.py bench/test_compare.py
	$(BIN)/python bench/end_to_end.py
	-$(BIN)/python bench/gdal_tiles.py
	-$(BIN)/python bench/many_cores.py

bench-quick: $(VENV)/bench
	$(BIN)/python -m compileall -q src/fasttile
	$(BIN)/python bench/end_to_end.py --headlines

$(VENV)/base: setup.py pyproject.toml $(KERNELS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/demo: $(VENV)/base
	$(BIN)/python -m pip install --quiet --group photos
	touch $@

$(VENV)/test: $(VENV)/base
	$(BIN)/python -m pip install --quiet --group test --group photos
	touch $@

$(VENV)/docs: $(VENV)/base
	$(BIN)/python -m pip install --quiet --group docs --group photos
	touch $@

$(VENV)/bench: $(VENV)/base
	$(BIN)/python -m pip install --quiet --group bench --group photos
	touch $@

clean:
	rm -rf $(VENV) .pythons build .demo .bench
	rm -f src/fasttile/*.c src/fasttile/*.so
