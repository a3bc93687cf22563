# make demo      the whole job on generated data, in its own environment (no GPU needed)
# make test      the test suite, against the built and installed wheel
# make test-all  the same with the slow checks
# make lint      ruff, codespell and mypy
#
# PYTHON    the interpreter to make environments with (3.10 or newer)
# VENV      environment of the demo; the package is installed editable there
# TEST_VENV environment of the tests and of lint; the wheel is installed there
# DEMO      folder that the demo writes
# PIP_ARGS  more options for pip, such as an index with CPU builds of PyTorch

PYTHON ?= python3
VENV ?= .venv
TEST_VENV ?= .venv-test
DEMO ?= demo_output
PIP_ARGS ?=
PYTEST_ARGS ?=

REQUIREMENTS := setup.py pyproject.toml constraints.txt
SOURCES := $(shell find nnunetv2_promise trainers network_architectures -type f -not -name '*.pyc') README.md LICENSE
VENV_BIN := $(abspath $(VENV))/bin
TEST_BIN := $(abspath $(TEST_VENV))/bin
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS)
# Tests run from their own folder: from the root, `python -m` would import the source tree and not the wheel.
PYTEST = cd tests && PATH="$(TEST_BIN):$$PATH" PROMISE_TEST_WHEEL=1 "$(TEST_BIN)/pytest"

.PHONY: help demo test test-all lint clean
.DELETE_ON_ERROR:

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.promise-demo
	"$(VENV_BIN)/nnUNetv2_promise_demo" -o "$(DEMO)"

test: $(TEST_VENV)/.promise-wheel
	$(PYTEST) $(PYTEST_ARGS)

test-all: $(TEST_VENV)/.promise-wheel
	$(PYTEST) -m "slow or not slow" $(PYTEST_ARGS)

lint: $(TEST_VENV)/.promise-lint $(TEST_VENV)/.promise-wheel
	"$(TEST_BIN)/ruff" check .
	"$(TEST_BIN)/ruff" format --check .
	"$(TEST_BIN)/codespell"
	cd tests && "$(TEST_BIN)/mypy" --config-file ../pyproject.toml -p nnunetv2_promise

# Removes what this Makefile built, but no environment and no demo output.
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
	"$(VENV_BIN)/python" $(PIP_INSTALL) -e .
	@touch "$@"

$(TEST_VENV)/.promise-requirements: $(REQUIREMENTS)
	$(call make_environment,$(TEST_BIN))
	"$(TEST_BIN)/python" $(PIP_INSTALL) build setuptools ".[test]"
	@touch "$@"

# `build` goes through the source archive, so a file that the archive lacks cannot hide in the working tree.
$(TEST_VENV)/.promise-wheel: $(TEST_VENV)/.promise-requirements $(SOURCES)
	rm -rf "$(TEST_VENV)/dist"
	"$(TEST_BIN)/python" -m build --no-isolation --outdir "$(TEST_VENV)/dist" . > "$(TEST_VENV)/build.log" 2>&1 || { \
		cat "$(TEST_VENV)/build.log" >&2; exit 1; }
	"$(TEST_BIN)/python" $(PIP_INSTALL) --no-deps --force-reinstall "$(TEST_VENV)"/dist/*.whl
	@touch "$@"

$(TEST_VENV)/.promise-lint: $(TEST_VENV)/.promise-requirements
	"$(TEST_BIN)/python" $(PIP_INSTALL) ruff mypy codespell
	@touch "$@"
