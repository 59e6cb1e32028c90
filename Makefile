# Two commands: `make demo` shows the product, `make test` proves it. Both set up .venv by themselves.
# Everything else is in the menu: `.venv/bin/nox -l`.

VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml $(shell find engine_c agent/walle_container -type f \
	\( -name '*.c' -o -name '*.h' -o -name '*.inc' -o -name '*.cl' -o -name '*.py' -path '*cmake*' -o -name 'CMakeLists.txt' -o -name '*.cmake' \) 2>/dev/null)

.PHONY: help setup demo test clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: $(VENV)/.ready-dev ## install Walle and its development tools into .venv (idempotent)

demo: $(VENV)/.ready-demo ## run the main job end to end, or APP=highlight, APP=recommend; KEEP=1 leaves it running
	@$(BIN)/python examples/$(or $(APP),demo) $(if $(KEEP),--keep)

test: $(VENV)/.ready-dev ## run the default test suite
	@$(BIN)/python -m nox --no-venv -s test -- $(ARGS)

clean: ## remove the environment and all build output
	rm -rf $(VENV) build dist

$(VENV)/.ready-dev: $(SOURCES) | $(VENV)/bin/python
	@echo "walle: installing Walle with its development tools into $(VENV)"
	@$(BIN)/python -m pip install --quiet --editable '.[agent,control]' --group dev
	@touch $@ $(VENV)/.ready-demo

$(VENV)/.ready-demo: $(SOURCES) | $(VENV)/bin/python
	@echo "walle: building the engine and installing Walle into $(VENV)"
	@$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/bin/python:
	@$(check_compiler)
	@python="$$($(find_python))" || exit 1; \
	echo "walle: creating $(VENV) with $$python"; \
	"$$python" -m venv $(VENV) && $(BIN)/python -m pip install --quiet --upgrade pip

define check_compiler
command -v cc >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null || { \
	echo "walle: no C compiler found. Walle builds its tensor engine from C; install one, for example" >&2; \
	echo "       'apt-get install build-essential' (Debian, Ubuntu) or 'dnf install gcc' (Fedora), and run make again." >&2; \
	exit 1; }
endef

# A Python counts if it is at least 3.13 and has its C headers. Order: $PYTHON, PATH, pyenv's versions, uv.
define find_python
usable() { "$$1" -c 'import os, sys, sysconfig, venv; header = os.path.join(sysconfig.get_path("include"), "Python.h"); \
sys.exit(sys.version_info < (3, 13) or not os.path.exists(header))' >/dev/null 2>&1; }; \
for candidate in "$$PYTHON" python3.15 python3.14 python3.13 python3 python \
	"$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.1[3-9]*/bin/python "$$(uv python find '>=3.13' 2>/dev/null)"; do \
	if [ -n "$$candidate" ] && usable "$$candidate"; then echo "$$candidate"; exit 0; fi; \
done; \
echo "walle: no Python 3.13 or newer with its C headers was found on PATH, in pyenv or by uv." >&2; \
echo "       Install one ('uv python install 3.13', 'pyenv install 3.13' or your system's python3.13-dev and" >&2; \
echo "       python3.13-venv) or name it: make demo PYTHON=/path/to/python3.13" >&2; \
exit 1
endef
export PYTHON
