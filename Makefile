# make demo, make test, make lint: each makes its own .venv; Python 3.11+ and a C compiler are
# all that is needed (without a compiler, the NumPy fallback is installed and tested alone).

PYTHON ?= python3
BIN := .venv/bin
# What an editable install must be made again for.
BUILD := pyproject.toml setup.py $(wildcard cyconv/kernels/*.p* cyconv/kernels/*.h)

.PHONY: demo test lint lint-cython lint-workflows format bench bench-quick roofline accuracy docs \
	figures soak sanitize valgrind fuzz coverage mutate clean

demo: .venv/demo
	$(BIN)/python examples/digits.py

# Kernels are tested in every build that loads, and as the fallback, at once. The rest runs on the
# best of them, where it depends on the road also without vectors, and again over the fallback.
ROAD := accuracy functional gradients layers nonfinite package plan shapes strided threads transposed
# A process a core, and none that waits for BLAS's threads on the others' cores.
PYTEST := $(BIN)/python -m pytest -q --numprocesses auto --maxprocesses 8 --dist worksteal
test: export OPENBLAS_NUM_THREADS := 1

test: .venv/test
	$(PYTEST)
	CYCONV_SIMD=portable $(PYTEST) $(ROAD:%=tests/test_%.py)
	CYCONV_PURE_PYTHON=1 $(PYTEST) -k "not fallback"

lint: .venv/dev lint-cython lint-workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lint-cython: .venv/dev  # (it calls pycodestyle by name)
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint cyconv/kernels

SCHEMA := $(BIN)/check-jsonschema --builtin-schema

lint-workflows: .venv/dev
	$(BIN)/zizmor --offline --quiet .github
	$(SCHEMA) vendor.github-workflows .github/workflows/*.yml
	$(SCHEMA) vendor.dependabot .github/dependabot.yml
	$(SCHEMA) vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/slow.yml
	$(SCHEMA) vendor.citation-file-format CITATION.cff

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Run on a quiet machine; unset OPENBLAS_* variables that pin an old kernel.
bench: .venv/bench
	$(BIN)/python -m benchmarks
	$(MAKE) roofline accuracy

roofline: .venv/bench  # of both roads, for their pages in docs
	$(BIN)/python -m benchmarks roofline --json docs/roofline-fast.json
	CYCONV_SIMD=portable $(BIN)/python -m benchmarks roofline --json docs/roofline-plain.json

accuracy: .venv/bench  # beside PyTorch, where it is installed
	$(BIN)/python -m benchmarks errors --json docs/accuracy.json

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

# Half an hour or more: over 20,000 random cases, new ones each time, and large layers.
soak: .venv/test
	$(BIN)/python -m pytest -q -m soak

# The tests, on kernels that check themselves; takes long, and needs gcc, and valgrind.
sanitize: .venv/checks
	$(BIN)/python tools/checks.py sanitize

valgrind: .venv/checks
	$(BIN)/python tools/checks.py valgrind

# Ten minutes of wrong arguments to kernels that AddressSanitizer watches; needs Clang.
CLANG ?= clang
FUZZ ?= -max_total_time=600
FUZZED := build/fuzz/lib
fuzz: .venv/fuzz
	CC=$(CLANG) CFLAGS=-fsanitize=address,fuzzer-no-link $(BIN)/python setup.py -q build --build-base build/fuzz --build-lib $(FUZZED)
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 \
	LD_PRELOAD=$$($(BIN)/python -c 'import atheris; print(atheris.path())')/asan_with_fuzzer.so \
	PYTHONPATH=$(FUZZED) $(BIN)/python tests/fuzz_kernels.py -rss_limit_mb=0 -len_control=0 -max_len=512 -timeout=60 $(FUZZ)

# Of the Python code in the compiled and the pure runs together, then of the kernels. Left out is what
# coverage.py itself does not bear: another interpreter, a signal while it holds its lock, a look at memory.
UNCOVERED := not signals_at_any_time and not another_interpreter and not calls_keep_nothing
COVER := -m pytest -q -m "not soak" -k "$(UNCOVERED)" --cov
coverage: .venv/checks
	$(BIN)/python $(COVER) --cov-report=
	CYCONV_PURE_PYTHON=1 $(BIN)/python $(COVER) --cov-append --cov-fail-under=97
	$(BIN)/python tools/trace.py

# Deliberate breaks, each of which the suite must notice. Takes an hour.
mutate: .venv/test
	$(BIN)/python tools/mutate.py --jobs 2

.venv/%: $(BUILD) | .venv
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@

.venv:
	$(PYTHON) -m venv .venv

clean:
	rm -rf .venv build dist *.egg-info cyconv/kernels/*.so
