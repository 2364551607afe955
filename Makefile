# SPDX-License-Identifier: MIT
# make demo and make check do everything on a fresh machine; the rest is convenience over the CMake presets.
#   PREFIX, DESTDIR      make install
#   VERIFY_SEED, VERIFY_CASES, CHECK_JOBS      make check, make check-long
#   DEMO_RANKS, DEMO_SEQ, DEMO_ARGS, DEMO_ITERS      make demo
SHELL := /bin/bash
PREFIX ?= /usr/local
MAKEFLAGS += --no-print-directory

.PHONY: help build demo demo-vit check check-long bench format install clean
help:
	@echo 'make demo         install what is missing, build, run every preset over 4 MPI ranks, train a small Llama'
	@echo 'make demo-vit     train a vision transformer on real weather over 4 MPI ranks, and draw a prediction'
	@echo 'make check        install what is missing, build, run all quick tests (CHECK_JOBS=n VERIFY_SEED=n)'
	@echo 'make check-long   the long tests: 3 x 20,000 random cases, proofs for 1,024 ranks, error growth'
	@echo 'make build        build/libringx.so and build/tools/ringx/ringx'
	@echo 'make bench        the cases of bench/cases on this machine, into bench/results'
	@echo 'make format       clang-format all sources'
	@echo 'make install      under PREFIX (now $(PREFIX)), below DESTDIR'
	@echo 'make clean        remove build and build-*'

build:
	@cmake --preset release >build-configure.log 2>&1 || { cat build-configure.log; rm -f build-configure.log; exit 1; }
	@rm -f build-configure.log
	@cmake --build --preset release

demo:
	@scripts/install-dependencies demo
	@$(MAKE) build
	@scripts/demo

demo-vit:
	@scripts/install-dependencies demo
	@$(MAKE) build
	@scripts/demo-vit

check:
	@scripts/install-dependencies check
	@scripts/check

check-long:
	@scripts/install-dependencies check
	@scripts/check --long

bench: build
	@scripts/bench

format:
	@scripts/check-format --fix

install: build
	cmake --install build --prefix $(PREFIX)

clean:
	rm -rf build build-debug build-mpich build-asan build-ubsan build-tsan
