# make demo, make test, make lint: each makes its own .venv; Python 3.11+ and a C compiler are
# all that is needed (without a compiler, the NumPy fallback is installed and tested alone).

PYTHON ?= python3
BIN := .venv/bin
# What an editable install must be made again for.
BUILD := pyproject.toml setup.py $(wildcard cyconv/kernels/*.p* cyconv/kernels/*.h)

.PHONY: demo test lint format bench bench-quick roofline docs figures soak clean

demo: .venv/demo
	$(BIN)/python examples/digits.py

# Kernels are tested in every build that loads, at once. The rest runs on the best of them, where it
# depends on the road also without vectors, and again over the fallback.
ROAD := functional gradients layers nonfinite package plan shapes threads transposed

test: .venv/test
	$(BIN)/python -m pytest -q
	CYCONV_SIMD=portable $(BIN)/python -m pytest -q $(ROAD:%=tests/test_%.py)
	CYCONV_PURE_PYTHON=1 $(BIN)/python -m pytest -q

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Run on a quiet machine; unset OPENBLAS_* variables that pin an old kernel.
bench: .venv/bench
	$(BIN)/python -m benchmarks
	$(MAKE) roofline

roofline: .venv/bench  # of both roads, for their pages in docs
	$(BIN)/python -m benchmarks roofline --json docs/roofline-fast.json
	CYCONV_SIMD=portable $(BIN)/python -m benchmarks roofline --json docs/roofline-plain.json

bench-quick: .venv/bench
	$(BIN)/python -m benchmarks --quick

# The pages as HTML, in build/docs; a warning is an error, and what they show has been run.
docs: .venv/docs
	$(BIN)/python -m pytest -q tests/test_readme.py tests/test_coming_from.py
	$(BIN)/python -m pytest -q tests/test_package.py -k examples
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs
	@echo "open build/docs/index.html"

figures: .venv/demo  # the pictures of docs/how_it_works.md
	for script in im2col col2im tiles winograd openmp; do $(BIN)/python docs/figures/$$script.py || exit; done

soak: .venv/test
	$(BIN)/python -m pytest -q -m soak

.venv/%: $(BUILD) | .venv
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@

.venv:
	$(PYTHON) -m venv .venv

clean:
	rm -rf .venv build dist *.egg-info cyconv/kernels/*.so
