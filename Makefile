# make test     lint, types, import contracts and tests, in an environment of its own (.venv)
# make nightly  the eight official models, exported and proved; 50 kills a command; an endless stream
# make fuzz     every reader of strangers' files under a fuzzer, FUZZ_SECONDS each
# make docs     the site: build/docs/html, every warning an error, every link followed
# make demo     export a model, track an object through a clip: out/demo.mp4, out/demo.png
# make cpp-aarch64  the same for 64-bit ARM, under QEMU (needs g++-aarch64-linux-gnu, qemu-user-static)
# make cpp-windows  the same for Windows, under Wine (needs g++-mingw-w64-x86-64-posix, wine64)
# make cpp      the C++ library: its headers fetched, built, tested (needs cmake and g++)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo docs test nightly lint pytest fuzz cpp cpp-headers clean
.DELETE_ON_ERROR:

test: lint pytest

# CHECKPOINT=weights.pt or MODEL=sam2.1_hiera_tiny (downloaded) instead of the built-in weights
demo: $(VENV)/.installed
	$(BIN)/sam2rt demo $(if $(CHECKPOINT),"$(CHECKPOINT)") $(MODEL) -o out

docs: $(VENV)/.installed site-programs-if-possible
	$(BIN)/python docs/site/make_site.py

# the reference of C++ needs the one, drawings need the other; without them the site does without
site-programs-if-possible:
	-{ command -v doxygen && command -v dot || { [ "$$(id -u)" = 0 ] && apt-get update -qq && \
	  apt-get install -y -qq --no-install-recommends doxygen graphviz; }; } >/dev/null

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports

# in so many processes at once; each takes two to five gigabytes
WORKERS ?= 2

# CI=true adds the slow tier, and says why tests were skipped
pytest: $(VENV)/.installed
	$(BIN)/python -m pytest -n $(WORKERS) $(if $(filter true,$(CI)),-rs,-m "not slow") $(PYTEST_ARGS)

# one at a time: a large model takes the memory and the cores
nightly: $(VENV)/.installed
	$(BIN)/python -m pytest -m nightly $(PYTEST_ARGS)

FUZZ_SECONDS ?= 600
fuzz: $(VENV)/.installed
	SAM2RT_FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest tests/fuzz --timeout 0 $(PYTEST_ARGS)

cpp: cpp-headers
	$(BIN)/python -m pytest -rs tests/cpp $(PYTEST_ARGS)

cpp-headers: $(VENV)/.installed
	runtime/cpp/tools/dependencies.sh build/cpp/deps $(abspath $(BIN))/python

cpp-aarch64: cpp-aarch64-headers
	$(BIN)/python -m pytest -rs tests/cpp/test_aarch64.py $(PYTEST_ARGS)

cpp-aarch64-headers: $(VENV)/.installed
	runtime/cpp/tools/dependencies.sh build/cpp/aarch64-deps $(abspath $(BIN))/python aarch64

cpp-windows: cpp-windows-headers
	$(BIN)/python -m pytest -rs tests/cpp/test_windows.py $(PYTEST_ARGS)

cpp-windows-headers: $(VENV)/.installed
	runtime/cpp/tools/dependencies.sh build/cpp/windows-deps $(abspath $(BIN))/python windows

# the slow tier tests C++ where its headers can be had; elsewhere those tests say so and are skipped
ifeq ($(CI),true)
pytest: cpp-headers-if-possible
pytest: cpp-aarch64-if-possible cpp-windows-if-possible
pytest: cpp-checkers-if-possible
pytest: media-programs-if-possible site-programs-if-possible
endif
.PHONY: cpp-aarch64 cpp-aarch64-headers cpp-aarch64-if-possible
.PHONY: cpp-windows cpp-windows-headers cpp-windows-if-possible
.PHONY: cpp-headers-if-possible cpp-checkers-if-possible media-programs-if-possible site-programs-if-possible
cpp-headers-if-possible: $(VENV)/.installed
	-runtime/cpp/tools/dependencies.sh build/cpp/deps $(abspath $(BIN))/python

cpp-aarch64-if-possible: cpp-headers-if-possible
	-command -v aarch64-linux-gnu-g++ qemu-aarch64-static >/dev/null || { [ "$$(id -u)" = 0 ] && \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends \
	  g++-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static; } >/dev/null
	-runtime/cpp/tools/dependencies.sh build/cpp/aarch64-deps $(abspath $(BIN))/python aarch64

cpp-windows-if-possible: cpp-headers-if-possible
	-{ { command -v x86_64-w64-mingw32-g++-posix && { command -v wine64 || [ -x /usr/lib/wine/wine64 ]; }; } || \
	  { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends \
	  g++-mingw-w64-x86-64-posix wine64; }; } >/dev/null
	-runtime/cpp/tools/dependencies.sh build/cpp/windows-deps $(abspath $(BIN))/python windows

# videos are compared with FFmpeg's own programs and played in a browser, where these can be had
media-programs-if-possible:
	-for program in ffmpeg chromium; do command -v $$program >/dev/null || { [ "$$(id -u)" = 0 ] && \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends $$program; }; done >/dev/null

# fuzzers of C++ need clang with its runtime library, the test of the C interface's memory valgrind
cpp-checkers-if-possible:
	-for program in clang valgrind; do command -v $$program >/dev/null || { [ "$$(id -u)" = 0 ] && \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends $$program \
	  libclang-rt-dev; }; done >/dev/null

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	mkdir -p $(VENV)/src
	ln -sfn ../.. $(VENV)/src/sam2rt
	touch $@

clean:
	rm -rf $(VENV) out build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
