# make demo    send and receive real instances on this machine, and compare them
# make test    run all checks and tests, and measure the coverage
# make serve   run the receiver
# make bench   measure against DCMTK, pynetdicom and Orthanc, and judge the ratios
# make guard   count the instructions of the hot paths, and compare them with the recorded figures
# make check-fast   run the checks that take seconds, before each commit
# make suite        run the tests without the checks
# make coverage     list the lines that the last `make suite` did not execute
#
# make kill    kill the receiver 200 times under load, `archive reindex`, the sender and a receiver that refuses
#              instances 50 times and the commitment service 100 times, and check the archive, the quarantine and the
#              journals
# make soak    open 100,000 associations of each kind and run many senders, and check for leaks
# make fuzz    fuzz each target for FUZZ_SECONDS (60); findings are written to .fuzz/findings
#
# make mutants   try a hundred small defects, and list those that no test notices; MUTANTS has options (--seed 7)
#
# make kill-short, soak-short and fuzz-short do the same in fewer rounds, for CI

PYTHON ?= python3
BIN := .venv/bin
FUZZ_SECONDS ?= 60

KILL_TESTS := tests/archive/test_kill.py tests/archive/test_verify_kill.py tests/archive/test_kill_reindex.py \
	tests/archive/test_quarantine.py tests/scu/sending/test_kill.py tests/commitment/test_kill.py tests/cli/test_workers_kill.py
SOAK_TESTS := tests/robustness/test_soak.py

.PHONY: demo test check check-fast suite coverage serve bench guard kill kill-short fuzz fuzz-short soak soak-short mutants clean

demo: .venv/installed
	$(BIN)/dicomport demo

serve: .venv/installed
	$(BIN)/dicomport storescp

test: check suite

suite: .venv/installed-for-tests
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --numprocesses auto --dist loadfile
	$(BIN)/coverage combine --quiet
	@echo "coverage, percent:"
	@$(BIN)/coverage report --format=total

coverage: .venv/installed-for-tests
	$(BIN)/coverage report --skip-covered --show-missing

check: check-fast
	$(BIN)/mypy

check-fast: .venv/installed-for-tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/generate_standard.py --check
	$(BIN)/python tools/draw_state_machine.py --check
	$(BIN)/python tools/list_limits.py --check
	$(BIN)/python -m tools.draw_rooms --check
	$(BIN)/python tools/check_english.py
	$(BIN)/python -m fuzz.seeds --check

bench: .venv/installed
	$(BIN)/python -m bench

guard: .venv/installed-for-tests
	$(BIN)/python -m bench.guard

kill: .venv/installed-for-tests
	DICOMPORT_KILLS=200 $(BIN)/pytest $(KILL_TESTS) --timeout 1200

kill-short: .venv/installed-for-tests
	DICOMPORT_KILLS=40 $(BIN)/pytest $(KILL_TESTS) --timeout 1200

mutants: .venv/installed-for-tests
	$(BIN)/python -m tools.mutants $(MUTANTS)

soak: .venv/installed-for-tests
	DICOMPORT_SOAK=100000 $(BIN)/pytest $(SOAK_TESTS) --timeout 36000

soak-short: .venv/installed-for-tests
	DICOMPORT_SOAK=2000 $(BIN)/pytest $(SOAK_TESTS) --timeout 1200

fuzz: .venv/installed-for-fuzzing
	$(BIN)/python -m fuzz --seconds $(FUZZ_SECONDS)

fuzz-short: .venv/installed-for-fuzzing
	$(BIN)/python -m fuzz --short

clean:
	rm -rf .venv

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "dicomport needs Python 3.11 or later: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/installed-for-tests: .venv/installed pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

.venv/installed-for-fuzzing: .venv/installed pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	@touch $@
