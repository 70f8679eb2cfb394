# Every rule works in a virtual environment. It makes the environment first if there is none, or if it
# is older than pyproject.toml. That needs Python 3.11 or newer and make, and nothing else.
#
#   PYTHON     the interpreter to make it with; without one, the first on the PATH that will do
#   VENV       the folder to make it in
#   ARGS       more arguments for the tests, the benchmarks or the examples, as in:
#              make test ARGS="-k heap -x"
#   PROCESSES  how many processes share the tests, of which some wait at any time; 0 for none, where a
#              debugger is to be used
#   LOG        the web server's logs to report on; without one, a log is made up

PYTHON ?=
VENV := .venv
ARGS :=
PROCESSES := 2
LOG :=

PYTHONS := python3 python3.13 python3.12 python3.11 python3.14 python
PICTURE := mandelbrot.png
REMOTE_PICTURE := build/remote.png
MADE_UP_LOG := build/weblog-1000000.log
LOG_REPORT := build/weblog.html
BROWSERS := chromium chromium-browser google-chrome google-chrome-stable
BIN := $(VENV)/bin
# One stamp stands for any Python, and one for the Python that PYTHON names.
READY := $(VENV)/ready$(if $(PYTHON),-$(subst /,-,$(PYTHON)))
BENCH_READY := $(VENV)/bench-ready
EXAMPLES_READY := $(VENV)/examples-ready
# mypy refuses rooms that hold no module yet, so they are left out.
TYPED := $(foreach room,asynqueue mcmandelbrot tests benchmarks examples,\
	$(if $(wildcard $(room)/*.py $(room)/*/*.py),$(room)))

# The caller's shell may hold variables that change what runs here, or where pip installs.
unexport VIRTUAL_ENV CONDA_PREFIX __PYVENV_LAUNCHER__
unexport PYTHONHOME PYTHONPATH PYTHONSAFEPATH PYTHONOPTIMIZE PYTHONWARNINGS PYTHONDONTWRITEBYTECODE
unexport PIP_PREFIX PIP_ROOT PIP_TARGET PIP_USER

.DEFAULT_GOAL := help
.PHONY: help mandelbrot remote weblog sms admin browser test check docs dist storm chaos model bench walk clean

help: ## say what the rules are
	@echo "make RULE [PYTHON=...] [VENV=...] [ARGS=...], where RULE is one of"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1:\2/p' Makefile | while IFS=: read -r rule what; do \
		printf '  %-12s %s\n' "$$rule" "$$what"; done

mandelbrot: $(READY) ## render the Mandelbrot set on all cores, into mandelbrot.png
	@$(BIN)/mcm 1000 -0.63 0 1.4 1.2 -o $(PICTURE)
	@echo "The picture is $(CURDIR)/$(PICTURE)"

remote: $(READY) ## render a picture on two servers, while one of them is killed and started again
	@$(BIN)/python -m examples.remote -o $(REMOTE_PICTURE) $(ARGS)
	@echo "The picture is $(CURDIR)/$(REMOTE_PICTURE)"

weblog: $(EXAMPLES_READY) $(if $(LOG),,$(MADE_UP_LOG)) ## report on web server logs, all cores: LOG=access.log
	@mkdir -p $(dir $(LOG_REPORT))
	@$(BIN)/python -m examples.weblog --html $(LOG_REPORT) $(ARGS) $(or $(LOG),$(MADE_UP_LOG))
	@echo "The report with charts is $(CURDIR)/$(LOG_REPORT)" >&2

sms: $(READY) ## serve a form that texts numbers through a pretend gateway, until Ctrl-C
	@exec $(BIN)/python -m examples.sms --parent $$PPID $(ARGS)

admin: $(READY) ## show the page of two queues under mixed load, until Ctrl-C
	@exec $(BIN)/python -m examples.busy $(ARGS)

$(MADE_UP_LOG): | $(EXAMPLES_READY)
	@mkdir -p $(@D)
	@echo "Making $@, which takes some seconds" >&2
	@$(BIN)/python -m examples.weblog.generate $@

# A browser comes with the system, or not at all. Without one, the tests that need it say so.
browser: ## install Chromium where apt can, for the tests that look at pages
	@for name in $(BROWSERS); do \
		command -v "$$name" >/dev/null && exit 0; \
	done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing Chromium, which takes some seconds"; \
		export DEBIAN_FRONTEND=noninteractive; \
		install="apt-get install --yes -qq --no-install-recommends -o DPkg::Lock::Timeout=120"; \
		$$install chromium >/dev/null 2>&1 || \
			{ apt-get update -qq && $$install chromium >/dev/null; } || \
			echo "Chromium could not be installed." >&2; \
	else \
		echo "There is no Chromium here, which some tests need: install it, as with" >&2; \
		echo "    sudo apt install chromium" >&2; \
	fi

# The tests of Dask have processes of their own: tests/conftest.py says why. With ARGS, only what they
# name runs.
test: $(READY) browser ## run the whole test suite
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile $(ARGS)
	$(if $(ARGS),,$(BIN)/python -m pytest tests/dask)

check: $(READY) ## lint, formats, types, imports between rooms, README examples, news fragments
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest --quiet tests/docs/test_examples.py
	$(BIN)/towncrier build --draft >/dev/null

docs: $(READY) ## build the documentation into docs/_build/html, warnings being errors
	$(BIN)/sphinx-build -b html -W --keep-going -n -q docs docs/_build/html

dist: $(READY) ## build an sdist and a wheel, and try the wheel in an environment of its own
	@mkdir -p build && rm -rf dist build/lib build/bdist* build/bare
	$(BIN)/python -m build --outdir dist . >build/dist.log 2>&1 || { cat build/dist.log; exit 1; }
	$(BIN)/twine check --strict dist/*
	$(BIN)/python -m venv build/bare
	build/bare/bin/python -m pip install --disable-pip-version-check --quiet "$$(echo dist/*.whl)[mcm]"
	cd build/bare && bin/python -I -c "$$TRIAL"
	build/bare/bin/asynqueue --version && build/bare/bin/twist asynqueue --help >/dev/null
	build/bare/bin/mcm 300 -0.63 0 1.4 1.2 -o build/bare/picture.png

storm: $(READY) ## run the tests that take long or load the machine
	$(BIN)/python -m pytest -m slow --timeout=600 --override-ini faulthandler_timeout=590 $(ARGS)
	$(if $(ARGS),,$(BIN)/python -m pytest tests/dask -m slow --timeout=600 --override-ini faulthandler_timeout=590)

chaos: $(BENCH_READY) ## crash and kill processes of ours and of the peers, and print what became of all
	$(BIN)/python -m benchmarks -k crashes $(ARGS)
	$(BIN)/python -m benchmarks -k storm $(ARGS)

model: $(READY) ## search the models' states exhaustively, the large sizes included
	$(BIN)/python -m pytest tests/model -m "slow or not slow" --timeout=1800 --override-ini faulthandler_timeout=1790 $(ARGS)

bench: $(BENCH_READY) ## measure against the peers, print the ratios, write docs/performance.*
	$(BIN)/python -m benchmarks $(ARGS)

walk: $(READY) ## count the functions and files that a call, a batch and a durable put go through
	@$(BIN)/python -m benchmarks.walk $(ARGS)

clean: ## remove what these rules and their tools made
	rm -rf .venv .venv-second .venv-peer benchmarks/results docs/_build docs/api/asynqueue*.rst docs/api/mcmandelbrot*.rst $(PICTURE) build dist *.egg-info
	rm -rf tests.*.test_* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache _trial_temp*
	rm -f twisted/plugins/dropin.cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What a fresh installation has to be able to do. It is no file, so its calls are of other modules.
define TRIAL
from math import factorial
from twisted.internet.task import react
from asynqueue import ProcessQueue

async def main(reactor):
    async with ProcessQueue(2) as queue:
        assert await queue.call(factorial, 20) == factorial(20)
        assert [n async for n in queue.map(factorial, range(5))] == [1, 1, 2, 6, 24]

if __name__ == "__main__":
    react(main)
endef
export TRIAL

# A name on the PATH proves nothing, because version managers leave names there that only fail. So
# each is run.
$(READY): pyproject.toml setup.py
	@python=; bare=; \
	for name in $(or $(PYTHON),$(PYTHONS)); do \
		"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
		"$$name" -c 'import ensurepip, venv' >/dev/null 2>&1 && { python=$$name; break; }; \
		bare=$${bare:-$$name}; \
	done; \
	if [ -z "$$python" ] && [ -n "$$bare" ]; then \
		echo "$$bare cannot make a virtual environment: it lacks the module venv or ensurepip." >&2; \
		echo "On Debian and Ubuntu: apt install python3-venv. Or name another: make PYTHON=..." >&2; \
		exit 1; \
	elif [ -z "$$python" ]; then \
		echo "No Python 3.11 or newer runs here (tried: $(or $(PYTHON),$(PYTHONS)))." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.12" >&2; \
		exit 1; \
	elif [ -e "$(VENV)" ] && [ ! -e "$(VENV)/pyvenv.cfg" ]; then \
		echo "$(VENV) exists and is no virtual environment." >&2; \
		echo "Remove it, or name another: make VENV=..." >&2; \
		exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$python" -V), which may take a minute"; \
	"$$python" -m venv --clear "$(VENV)"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[dev,mcm]'
	@touch $(VENV)/ready $@

$(EXAMPLES_READY): $(READY)
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[dev,mcm,examples]'
	@touch $@

$(BENCH_READY): $(READY)
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[dev,mcm,bench]'
	@touch $@
