# make run    a working demo; PORT=9000 for another port
# make test   set-up, checks and all tests, as CI does; T=tests/unit/test_x.py for some
# make check  formatting, lint, types
# make bench  beside other servers, an hour; make instructions: counts
# make bench-check BASE=main    what is slower than another revision, from 5 % on, two minutes; without BASE: against the
#                               stored baseline, from 25 % on
# make debug  compiled part with bounds checks and line tracing, annotated HTML in build/debug/
# make setup  .venv with the pinned packages and the compiled part; nothing to do takes no time
# make clip   films the demo's clip again (Chromium, ffmpeg); it is in git, so nobody has to
# make clean  away with all that was made
# make install-systemd    as root: a systemd service on this host, or its upgrade; make uninstall-systemd: away with it
#                         DESTDIR=/folder, WHEEL=dist/x.whl, PYTHON=/usr/bin/python3: deploy/install.sh says what they do

PORT ?= 8080
T ?=
BIN := .venv/bin

BENCH :=
BASE :=

.PHONY: run test check format bench bench-check instructions debug setup dist clip clean install-systemd uninstall-systemd

run: setup
	@exec $(BIN)/koko-presence serve --dev --port $(PORT)

# the tests run even when a check complains, so that one CI run tells everything
test:
	@bash .ci/setup tests
	@checks=0; $(MAKE) --no-print-directory check || checks=1; \
	$(BIN)/python -m pytest $(T) && exit $$checks

check: setup
	@$(BIN)/ruff format --check --quiet . || { echo "check: run  make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@echo "check: format, lint and types are fine"

format: setup
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

bench: setup
	@$(BIN)/python -m bench.compare $(BENCH)

bench-check: setup
	@$(BIN)/python -m bench.check $(if $(BASE),--base "$(BASE)") $(BENCH)

instructions: setup
	@$(BIN)/python -m bench.instructions $(BENCH)

debug:
	@KOKO_DEBUG=1 bash .ci/setup
	@echo "debug: compiled with bounds checks and line tracing; annotated: build/debug/_fastpath/*.html"
	@echo "debug: make setup compiles for speed again"

setup:
	@bash .ci/setup

dist: setup
	@$(BIN)/python -m build --no-isolation

clip: setup
	@$(BIN)/python -m bench.clip

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis _fastpath/*.so
	find . -name __pycache__ -prune -exec rm -rf {} +

# the service's own environment, not .venv
install-systemd:
	@bash deploy/install.sh install

uninstall-systemd:
	@bash deploy/install.sh uninstall
