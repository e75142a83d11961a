# Every target installs what it lacks and says so; all are idempotent.
SHELL := /bin/bash
UV ?= $(shell command -v uv || echo /root/.local/bin/uv)
RUN := $(UV) run --frozen --no-sync
BPF_OBJECTS := src/cilium/datapath/objects

.PHONY: help demo test test-guest bench lint setup bpf views reference format wheel clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: setup bpf ## bring up the lab, deploy, enforce, observe
	@$(RUN) bash tools/demo.sh

test: setup bpf ## every test this machine can run
	@$(RUN) bash tools/test.sh

test-guest: setup bpf ## what needs another kernel, in an emulated machine (4-6 minutes)
	@EXTRA_PACKAGES="qemu-system-x86 kmod" bash tools/setup.sh
	@GUEST=1 $(RUN) python -m pytest tests/guest

bench: setup bpf ## the figures of docs/performance.md, as ratios in one run (half an hour)
	@EXTRA_PACKAGES="iptables" bash tools/setup.sh
	@$(RUN) python -m bench

lint: setup bpf ## the gate
	@$(RUN) bash tools/lint.sh

setup: ## system packages, uv, the virtual environment
	@bash tools/setup.sh

bpf: setup ## compile the datapath (build time only: no node needs a compiler)
	@$(MAKE) -s --no-print-directory -C bpf OUT=$(abspath $(BPF_OBJECTS))

views: bpf ## regenerate Python's view of maps, events and drop reasons from BTF
	@$(RUN) python tools/generate_views.py && $(RUN) python tools/generate_libbpf.py

reference: bpf ## regenerate docs/reference from settings, CRDs, commands and enums
	@$(RUN) python tools/generate_reference.py

format: ## what ruff can mend by itself
	@$(RUN) ruff check --fix-only -q . ; $(RUN) ruff format -q .

wheel: setup bpf ## dist/, with the compiled datapath
	@$(UV) build --wheel -q

clean: ## compiled objects and dist/
	rm -rf $(BPF_OBJECTS) dist build
