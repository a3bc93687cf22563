# make demo          the whole job on generated data, in its own environment (no GPU needed)
# make test          the test suite, against the built and installed wheel
# make test-all      the same with the slow checks
# make test-pythons  the test suite with each interpreter of PYTHONS, in an environment for each
# make lint          ruff, codespell, the pre-commit hooks and mypy
# make docs          the documentation as a site in build/docs/html; warnings are errors, the notebook is executed
# make mutate        changes one token of a logic module at a time and sees whether its tests notice; takes hours
# make clean         removes what was built, but no environment and no demo output
#
# PYTHON    the interpreter to make environments with (3.10 or newer)
# PYTHONS   interpreters of test-pythons: names on PATH or paths
# VENV      environment of the demo; the package is installed editable there
# TEST_VENV environment of tests, lint and docs; the wheel is installed there
# DEMO      folder that the demo writes
# MUTATE    modules or rooms of mutate, such as "images/geometry prompts"; MUTATE_ARGS="--sample 50 --seed 1" draws more
# TEST_JOBS processes that run tests, each a file at a time
# PIP_ARGS  more options for pip, such as an index with CPU builds of PyTorch

PYTHON ?= python3
PYTHONS ?= python3.10 python3.14
VENV ?= .venv
TEST_VENV ?= .venv-test
DEMO ?= demo_output
TEST_JOBS ?= 2
PIP_ARGS ?=
PYTEST_ARGS ?=
MUTATE ?=
MUTATE_ARGS ?=

REQUIREMENTS := setup.py pyproject.toml constraints.txt
SOURCES := $(shell find nnunetv2_promise trainers network_architectures -type f -not -name '*.pyc') README.md LICENSE
VENV_BIN := $(abspath $(VENV))/bin
TEST_BIN := $(abspath $(TEST_VENV))/bin
PIP_INSTALL = -m pip install --disable-pip-version-check -c constraints.txt $(PIP_ARGS)
# With PROMISE_TEST_WHEEL the tests refuse to run on anything but the installed wheel. A checkout on PYTHONPATH would
# come before it. Processes that run side by side get one thread each; nnU-Net's training on a CPU takes all of them
# whatever is asked for, and threads that spin while they wait would keep the other process from working.
PYTEST = env -u PYTHONPATH PATH="$(TEST_BIN):$$PATH" OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE PROMISE_TEST_WHEEL=1 "$(TEST_BIN)/pytest" \
	--numprocesses=$(TEST_JOBS) --dist=loadfile

.PHONY: help demo test test-all test-pythons lint docs mutate clean
.DELETE_ON_ERROR:

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.promise-demo
	"$(VENV_BIN)/nnUNetv2_promise_demo" -o "$(DEMO)"

test: $(TEST_VENV)/.promise-wheel
	$(PYTEST) $(PYTEST_ARGS)

test-all: $(TEST_VENV)/.promise-wheel
	$(PYTEST) -m "slow or not slow" $(PYTEST_ARGS)

test-pythons:
	@set -e; for python in $(PYTHONS); do \
		echo "== $$python"; \
		$(MAKE) test PYTHON="$$python" TEST_VENV="$(TEST_VENV)-$$(basename "$$python")"; \
	done

# mypy does not know that a checkout's three folders are one package, so it is kept away from the checkout.
lint: $(TEST_VENV)/.promise-lint $(TEST_VENV)/.promise-wheel
	"$(TEST_BIN)/ruff" check .
	"$(TEST_BIN)/ruff" format --check .
	"$(TEST_BIN)/codespell"
	SKIP=ruff-check,ruff-format,codespell "$(TEST_BIN)/pre-commit" run --all-files
	cd "$(TEST_VENV)" && env -u PYTHONPATH "$(TEST_BIN)/mypy" --config-file "$(CURDIR)/pyproject.toml" -p nnunetv2_promise

docs: $(TEST_VENV)/.promise-docs $(TEST_VENV)/.promise-wheel
	rm -rf build/docs docs/api/generated
	env -u PYTHONPATH PATH="$(TEST_BIN):$$PATH" "$(TEST_BIN)/sphinx-build" --fail-on-warning --keep-going --color -q \
		-b html -c docs -d build/docs/doctrees . build/docs/html
	@echo "The site is in build/docs/html/index.html"

mutate: $(TEST_VENV)/.promise-mutate $(TEST_VENV)/.promise-wheel
	env -u PYTHONPATH PATH="$(TEST_BIN):$$PATH" "$(TEST_BIN)/python" tests/mutate.py $(MUTATE_ARGS) $(MUTATE)

clean:
	rm -rf build dist "$(TEST_VENV)/dist" "$(TEST_VENV)/.promise-wheel"

# An environment is made once. Stamp files say what is installed in it; they are older than a changed requirement.
define make_environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "Python 3.10 or newer is needed; $(PYTHON) is older or missing. Name one: make PYTHON=python3.11" >&2; exit 1; }
	@test -x "$(1)/python" || $(PYTHON) -m venv "$(patsubst %/bin,%,$(1))" || { \
		echo "$(PYTHON) cannot make environments; on Debian and Ubuntu install the package python3-venv." >&2; exit 1; }
endef

$(VENV)/.promise-demo: $(REQUIREMENTS)
	$(call make_environment,$(VENV_BIN))
	@echo "Installing PyTorch, nnU-Net and this package into $(VENV). This happens once and may download several GB."
	@"$(VENV_BIN)/python" $(PIP_INSTALL) -e .
	@touch "$@"

$(TEST_VENV)/.promise-requirements: $(REQUIREMENTS)
	$(call make_environment,$(TEST_BIN))
	@echo "Installing PyTorch, nnU-Net and test tools into $(TEST_VENV). This happens once and may download several GB."
	@"$(TEST_BIN)/python" $(PIP_INSTALL) build setuptools ".[test]"
	@touch "$@"

# `build` goes through the source archive, so a file that the archive lacks cannot hide in the working tree.
$(TEST_VENV)/.promise-wheel: $(TEST_VENV)/.promise-requirements $(SOURCES)
	@echo "Building the wheel and installing it into $(TEST_VENV)"
	@rm -rf "$(TEST_VENV)/dist"
	@"$(TEST_BIN)/python" -m build --no-isolation --outdir "$(TEST_VENV)/dist" . > "$(TEST_VENV)/build.log" 2>&1 || { \
		cat "$(TEST_VENV)/build.log" >&2; exit 1; }
	@"$(TEST_BIN)/python" $(PIP_INSTALL) --quiet --no-deps --force-reinstall "$(TEST_VENV)"/dist/*.whl
	@touch "$@"

$(TEST_VENV)/.promise-lint: $(TEST_VENV)/.promise-requirements
	@echo "Installing checkers into $(TEST_VENV)"
	@"$(TEST_BIN)/python" $(PIP_INSTALL) --quiet ruff mypy codespell pre-commit
	@touch "$@"

$(TEST_VENV)/.promise-docs: $(TEST_VENV)/.promise-requirements
	@echo "Installing Sphinx into $(TEST_VENV)"
	@"$(TEST_BIN)/python" $(PIP_INSTALL) --quiet sphinx myst-nb pydata-sphinx-theme
	@touch "$@"

$(TEST_VENV)/.promise-mutate: $(TEST_VENV)/.promise-requirements
	@echo "Installing Cosmic Ray into $(TEST_VENV)"
	@"$(TEST_BIN)/python" $(PIP_INSTALL) --quiet cosmic-ray
	@touch "$@"
