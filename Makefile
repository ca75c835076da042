# make help   this list
# make run    a working demo; PORT=9000 for another port
# make test   set-up, checks and the tests that a change needs; T=tests/unit/test_x.py for some
# make test-fast    units, rules, cases and 200 simulated stories: about a minute, no browser
# make test-more    what make test leaves out and CI runs after it: make test-bench test-counts test-pages test-bundlers
#                   test-packaging test-systemd test-long; make test-soak runs for minutes and only by name
# make check  formatting, lint, types
# make bench  beside other servers, an hour; make instructions: counts
# make bench-check BASE=main    what is slower than another revision, for changes of about 10 %, two to four minutes;
#                               CASES=joining for some of the cases; without BASE: against the stored baseline, from 25 % on
# make debug  compiled part with bounds checks and line tracing, annotated HTML in build/debug/
# make setup  .venv with the pinned packages and the compiled part; nothing to do takes no time
# make pins   deploy/requirements*.txt anew, after a version in pyproject.toml has changed: what install-systemd installs
# make generate    the files that are made of others: from koko_presence/protocol TypeScript types and client models, from
#                  the SDK its declarations and the minified files
# make clip   films the demo's clip again (Chromium, ffmpeg); it is in git
# make clean  away with all that was made
# make install-systemd    as root: a systemd service on this host, or its upgrade; make uninstall-systemd: away with it
#                         DESTDIR=/folder, WHEEL=dist/x.whl, PYTHON=/usr/bin/python3: deploy/install.sh says what they do

PORT ?= 8080
T ?=
BIN := .venv/bin

BENCH :=
BASE :=
CASES :=
# the tests of one file run in one process; most wait as long as they compute: three processes for two cores
PARALLEL := -n 3 --dist loadfile

# each server that a test starts would compile the whole program anew
unexport PYTHONDONTWRITEBYTECODE

TIERS := bench counts pages bundlers packaging systemd long

.PHONY: help run dev node test test-fast test-more $(TIERS:%=test-%) test-soak check format bench bench-check instructions debug setup dist pins generate clip clean install-systemd uninstall-systemd

help:
	@sed -n '/^#/!q; s/^# //p' Makefile

run: setup
	@exec $(BIN)/koko-presence serve --dev --port $(PORT)

# the tests run even when a check complains, so that one run tells everything
test:
	@bash .ci/setup tests
	@checks=0; $(MAKE) --no-print-directory check || checks=1; \
	$(BIN)/python -m pytest $(PARALLEL) $(T) && exit $$checks

test-fast:
	@bash .ci/setup tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not deep" tests/unit

# each in a run of its own: valgrind beside a load generator would spoil both
test-more: $(TIERS:%=test-%)

$(TIERS:%=test-%) test-soak: test-%:
	@bash .ci/setup tests $*
	@$(BIN)/python -m pytest --tier $* tests

check: dev node
	@$(BIN)/ruff format --check --quiet . || { echo "check: run  make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@node koko_presence/protocol/generate/sdk.mjs --check
	@echo "check: format, lint and types are fine"

format: dev
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

bench: dev
	@$(BIN)/python -m bench.compare $(BENCH)

bench-check: dev
	@$(BIN)/python -m bench.check $(if $(BASE),--base "$(BASE)") $(if $(CASES),--only "$(CASES)") $(BENCH)

instructions: dev
	@$(BIN)/python -m bench.instructions $(BENCH)

debug:
	@KOKO_DEBUG=1 bash .ci/setup
	@echo "debug: compiled with bounds checks and line tracing; annotated: build/debug/_fastpath/*.html"
	@echo "debug: make setup compiles for speed again"

setup:
	@bash .ci/setup

dev:
	@bash .ci/setup dev

node:
	@bash .ci/setup node

dist: dev
	@$(BIN)/python -m build --no-isolation

pins: dev
	@$(BIN)/python deploy/pins.py

generate: dev node
	@$(BIN)/python -m koko_presence.protocol.generate
	@node koko_presence/protocol/generate/sdk.mjs

clip: dev
	@$(BIN)/python -m bench.clip

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis _fastpath/*.so
	find . -name __pycache__ -prune -exec rm -rf {} +

# the service's own environment, not .venv
install-systemd:
	@bash deploy/install.sh install

uninstall-systemd:
	@bash deploy/install.sh uninstall
