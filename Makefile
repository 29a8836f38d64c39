# Everything a developer or user types.  `make run` and `make test` set up all they need in .venv.

PYTHON ?= python3
CONFIG ?= etc/mta.toml
TESTS ?=
BIN := .venv/bin

.PHONY: run test lint compiled test-compiled peers bench bench-queue docs clean

run: .venv/installed
	$(BIN)/mta dev-cert var/tls
	$(BIN)/twistd -n --pidfile= mta --config $(CONFIG)

test: .venv/installed
	$(BIN)/python -W error -m tests $(TESTS)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -W error -m tests tests.test_layers

# The hot path as a C extension in this tree (build_compiled.py); what is edited from then on needs it again, or `make clean`.
compiled: .venv/installed
	$(BIN)/python build_compiled.py

# What `MTA_COMPILE=1 pip install .` makes, beside the tree (`make peers` installs the compiler), and on it the tests of what is
# compiled: they fail where a module of the list is not an extension.  TESTS=tests for all.
test-compiled: .venv/installed
	rm -rf build/compiled
	MTA_COMPILE=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target build/compiled .
	cp -r tests bench docs etc build_compiled.py pyproject.toml *.md LICENSE Makefile build/compiled
	cd build/compiled && PYTHONPATH=$(CURDIR)/build/compiled MTA_REQUIRE_COMPILED=1 $(CURDIR)/$(BIN)/python -W error -m tests \
		$(or $(TESTS),tests.test_compiled tests.smtp tests.receive tests.relay tests.queue tests.route tests.fuzz tests.whole)

# The real mail servers that tests/peers and bench use (as root, Debian's packages, nothing is started).
peers:
	sh tests/peers/install.sh

# Us and the others side by side (as root, after `make peers`): an hour, into docs/performance.md and docs/bench.
# make bench BENCH=--quick shows in minutes that it works; BENCH='--only relay-20,tls --rounds 3 --scale 0.5' is a part of it.
BENCH ?=
bench: .venv/bench
	$(BIN)/python -m bench $(BENCH)

# The queue under a backlog: small sizes, to see that it works.  `make bench-queue SIZES=` takes a million rows, about twenty minutes
# and 15 GB below /var/tmp, and writes the tables and pictures of docs/bench.
SIZES ?= --quick
bench-queue: .venv/installed
	$(BIN)/python -m bench.queue all $(SIZES) $(if $(SIZES),,--out docs/bench)
	$(BIN)/python -m bench.day $(if $(SIZES),--messages 5000 --destinations 500,--out docs/bench)

# Twisted imports all plugins once and keeps a list: one of its own warns, which the first test that asks would take for its fault.
.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is wanted; set PYTHON=")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	$(BIN)/twistd --help >/dev/null
	touch $@

.venv/bench: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	touch $@

clean:
	find mta -name "*.so" -delete
	rm -rf mta__mypyc.*.so .venv build dist .mypy_cache .ruff_cache .hypothesis _trial_temp*
