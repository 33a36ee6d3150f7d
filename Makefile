# HyperContainer. The two commands: `make demo` and `make test`.
# What is built for the guest goes to $(CACHE), outside the checkout; the rest to .venv and build/.

CACHE := $(or $(HYPER_CACHE),/var/cache/hyper)
HYPERSTART := hyperstart/build/hyperstart
PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
# Workers of `make test`: most tests wait for a VM. JOBS=0 runs them in one process, one by one.
JOBS := 2

PREFIX := /usr/local
UNITDIR := $(PREFIX)/lib/systemd/system

.PHONY: help setup demo test test-unit test-engines test-conformance test-containerd \
	test-crashes test-arm64 soak lab lab-xen lint format fuzz-api hyperkernel \
	hyperkernel-xen hyperkernel-arm64 initrd-arm64 \
	distribution-kernel kernel initrd uml firmware cbfs iso hyperstart giveback fuzz bench install clean

help:
	@echo 'make demo         set up, then run a container image in a VM of its own (as root)'
	@echo 'make test         set up, then run all tests, with real VMs (as root)'
	@echo
	@echo 'make setup        install what is missing: Debian packages, .venv'
	@echo 'make hyperkernel  build the small guest kernel (about 5 minutes, once)'
	@echo 'make hyperkernel-xen'
	@echo '                  the same for guests of Xen'
	@echo 'make hyperkernel-arm64'
	@echo '                  the same for guests of arm64, with their initrd (10 minutes, once)'
	@echo 'make hyperstart   build the guest'"'"'s init'
	@echo 'make giveback     build what gives memory of VMs back to the host (part of initrd)'
	@echo 'make initrd       build what VMs start from: hyper-initrd.img'
	@echo 'make uml          User Mode Linux, and what its VMs start from: hyper-initrd-uml.img'
	@echo 'make cbfs         kernel and initrd in a flash that VMs can boot from: cbfs.rom'
	@echo 'make iso          kernel and initrd on a CD that a PC boots from: hyper.iso'
	@echo 'make test-unit    the tests that start no VM'
	@echo 'make test-engines runv under Docker, Podman and containerd (as root)'
	@echo 'make test-containerd'
	@echo '                  the shim and runv-containerd with real clients of containerd; Swarm (as root)'
	@echo 'make test-conformance'
	@echo '                  runv under the tests of runc and of crun, which are fetched (as root)'
	@echo 'make test-crashes hyperd killed before every step of what it does (as root, 15 minutes)'
	@echo 'make test-arm64   guests of arm64, whose kernel is built if there is none (as root)'
	@echo 'make soak         pods come and go while hyperd is killed; DURATION=540 SEED=N (as root)'
	@echo 'make lab          tests under a real KVM, in a machine that is emulated (as root)'
	@echo 'make lab-xen      the same in a dom0 of Xen'
	@echo 'make lint         ruff, mypy, layers'
	@echo 'make format       let ruff format the code'
	@echo 'make fuzz         fuzz hyperstart'"'"'s protocol code for a minute'
	@echo 'make fuzz-api     many calls to every route of hyperd (as root)'
	@echo 'make bench        measure, print a table, write bench/out/*.json'
	@echo 'make install      programs to PREFIX (/usr/local), units to UNITDIR, below DESTDIR if given'
	@echo 'make clean        remove what was built in the checkout'

setup:
	@tools/setup dev

demo:
	@tools/setup run
	@$(MAKE) --no-print-directory kernel
	@tools/demo

# Everything a VM starts from.
kernel: initrd
	@if [ -e $(CACHE)/hyperkernel/vmlinux ]; then \
		echo "guest kernel: hyperkernel"; \
	else \
		$(MAKE) --no-print-directory distribution-kernel; \
		echo "guest kernel: Debian's; \`make hyperkernel\` builds one that starts faster"; \
	fi

hyperkernel:
	@tools/setup kernel
	@python3 -m hyperkernel.build
	@$(MAKE) --no-print-directory initrd

# The same for guests of Xen.
hyperkernel-xen:
	@tools/setup kernel
	@python3 -m hyperkernel.build --flavour xen

# For guests of arm64, which are emulated.
hyperkernel-arm64:
	@tools/setup kernel arm64
	@python3 -m hyperkernel.build --flavour arm64
	@$(MAKE) --no-print-directory initrd-arm64

initrd-arm64:
	@tools/setup run arm64
	@$(MAKE) --silent -C hyperstart CROSS=aarch64-linux-gnu- O=build/aarch64
	@$(MAKE) --silent -C giveback CACHE=$(CACHE) QEMU=$$(command -v qemu-system-aarch64)
	@hyperkernel/initrd.py --init hyperstart/build/aarch64/hyperstart \
		$(CACHE)/hyper-initrd-arm64.img

distribution-kernel: hyperstart giveback
	@hyperkernel/distribution.py
	@hyperkernel/initrd.py --init $(HYPERSTART) --modules $(CACHE)/distribution/modules \
		$(CACHE)/distribution/initrd.img

initrd: hyperstart giveback
	@hyperkernel/initrd.py --init $(HYPERSTART) $(CACHE)/hyper-initrd.img

# For VMs of User Mode Linux.
uml: hyperstart
	@tools/setup uml
	@python3 -m hyperkernel.uml --init $(HYPERSTART) $(CACHE)/hyper-initrd-uml.img

firmware:
	@tools/setup run
	@$(MAKE) --silent -C firmware
	@mkdir -p $(CACHE)
	@cmp -s firmware/build/firmware.rom $(CACHE)/firmware.rom || \
		install -m 644 firmware/build/firmware.rom $(CACHE)/firmware.rom

# KERNEL and INITRD name others than hyperkernel's.
cbfs: kernel firmware
	@tools/setup firmware
	@$(PYTHON) -m firmware.cbfs $(if $(KERNEL),--kernel $(KERNEL)) $(if $(INITRD),--initrd $(INITRD)) \
		$(CACHE)/cbfs.rom

iso: kernel
	@tools/setup iso
	@$(PYTHON) -m hyperkernel.iso $(if $(KERNEL),--kernel $(KERNEL)) $(if $(INITRD),--initrd $(INITRD)) \
		$(CACHE)/hyper.iso

hyperstart:
	@tools/setup run
	@$(MAKE) --silent -C hyperstart

giveback:
	@tools/setup run
	@$(MAKE) --silent -C giveback CACHE=$(CACHE)

test: setup kernel uml
	@$(MAKE) --silent -C hyperstart check
	@$(MAKE) --silent -C firmware check
	$(PYTEST) -n $(JOBS) --dist loadfile $(ARGS)

test-unit: setup
	$(PYTEST) tests/unit $(ARGS)

test-engines: setup kernel
	@tools/setup engines
	$(PYTEST) tests/engines $(ARGS)

test-containerd: setup kernel
	@tools/setup engines
	$(PYTEST) tests/containerd $(ARGS)

test-crashes: setup kernel
	HYPER_CRASH_POINTS=all $(PYTEST) tests/e2e/test_hyperd_crash_points.py $(ARGS)

# In one process: each VM emulates a foreign processor.
test-arm64: setup kernel
	@$(MAKE) --no-print-directory hyperkernel-arm64
	HYPER_TEST_ARCHITECTURE=arm64 $(PYTEST) $(or $(ARGS),tests/arm64 tests/e2e/test_sandbox_network.py \
		tests/e2e/test_sandbox_template.py tests/e2e/test_share_drivers.py -k "not what_programs_do")

# SEED=N repeats what a run did; pods come and go for DURATION seconds.
soak: setup kernel
	$(PYTHON) -m tests.soak --seconds $(or $(DURATION),540) $(if $(SEED),--seed $(SEED)) $(ARGS)

# A Debian on an emulated AMD CPU, whose KVM works; ARGS go to pytest there.
lab: setup kernel
	@tools/setup lab
	$(PYTHON) -m lab kvm $(ARGS)

# A Debian that is Xen's dom0.
lab-xen: setup kernel
	@tools/setup lab
	@$(MAKE) --no-print-directory hyperkernel-xen
	$(PYTHON) -m lab xen $(ARGS)

test-conformance: setup kernel
	$(PYTHON) -m tests.conformance.run $(ARGS)

lint: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

format: setup
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

# Every route of the REST API, from its own OpenAPI document; FUZZ calls each, of two kinds.
fuzz-api: setup kernel
	HYPER_FUZZ=$(or $(FUZZ),100) $(PYTEST) tests/e2e/test_api_fuzz.py $(ARGS)

fuzz:
	@tools/setup fuzz
	@$(MAKE) --silent -C hyperstart fuzz

bench: setup kernel
	$(PYTHON) -m bench $(ARGS)

install: kernel
	@tools/install "$(DESTDIR)" $(PREFIX) $(UNITDIR) $(CACHE)

clean:
	$(MAKE) -C hyperstart clean
	$(MAKE) -C firmware clean
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
