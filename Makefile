# Each target does all of its own set-up in .venv; `make demo` and `make test` are the two to know.
# The oldest supported Python that is here; `make setup PYTHON=python3.13` takes another one.
PYTHON ?= $(or $(firstword $(foreach name,python3.11 python3.12 python3.13,$(shell command -v $(name)))),python3.11)
BIN := .venv/bin
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo check test test-lowest lint format docs docs-site dist chaos fuzz test-compose test-upgrade test-executorch test-arm bench bench-export bench-labels bench-scale bench-images reproduce gpu gpu-wheels gpu-dry clean

setup: .venv/ready
ifneq ($(filter command environment,$(origin PYTHON)),)
	@test "$$($(PYTHON) -V)" = "$$($(BIN)/python -V)" || \
		{ echo "error: .venv has $$($(BIN)/python -V), not $(PYTHON): 'make clean' removes it"; exit 2; }
endif

.venv/ready: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found: set PYTHON to a Python 3.11, 3.12 or 3.13"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[worker,monitor,s3,export,dev,docs-site,dist]'
	touch $@

demo: setup
	$(BIN)/distill run examples/quickstart.yaml

# Two at a time: with four on two cores the suite took longer, and a test reached its deadline. A file's tests stay together; the files
# stay in order, the short ones last.
test: setup
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# The whole suite with the oldest versions that pyproject.toml allows.
test-lowest: .venv-lowest/ready
	.venv-lowest/bin/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

.venv-lowest/ready: pyproject.toml constraints-lowest.txt
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet -c constraints-lowest.txt -e '.[worker,monitor,s3,export,dev,docs-site,dist]'
	touch $@

# What `make test` skips: the formats of ExecuTorch, whose library takes 205 MB beside what .venv has.
test-executorch: .venv-executorch/ready
	.venv-executorch/bin/pytest tests/integration/test_executorch.py

.venv-executorch/ready: pyproject.toml constraints.txt
	test -x .venv-executorch/bin/python || $(PYTHON) -m venv .venv-executorch
	.venv-executorch/bin/python -m pip install --quiet -c constraints.txt -e '.[worker,executorch]' hypothesis moto flask-cors pytest pytest-timeout pytest-xdist psutil
	touch $@

# What is run before each commit, within a minute: properties try few examples, and a unit test of more than a second fails.
check: setup
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/pytest tests/unit --quiet --numprocesses 2 --dist loadfile --hypothesis-profile=quick --slow-tests-fail

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/ruff check --preview --select PLW1514 docs scheduler shared worker  # Files whose encoding is not named.
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory docs-site

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup
	$(BIN)/python -m docs.generate

# All pages, and those of the modules that programs import, in site/: nothing is fetched, neither now nor when it is read.
docs-site: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# The packages in dist/: built, checked, installed where nothing of the checkout is, and run. WHOLE=1 has pip get all that they need.
dist: setup
	$(BIN)/python -m tests.dist $(if $(WHOLE),--whole)

chaos: setup
	$(BIN)/python -m tests.chaos

# Ten thousand inputs for each entrance, seeded; what finds something is kept in .fuzz. TARGETS="labels.npz set" for some.
fuzz: setup
	$(BIN)/python -m tests.fuzz $(TARGETS)

# Docker and Docker Compose, with a registry or with debootstrap; it takes about ten minutes.
test-compose: setup
	$(BIN)/python -m tests.compose

# An earlier commit's client and worker beside this version's; it takes some minutes. `make test-upgrade COMMIT=…` takes another one.
test-upgrade: setup
	$(BIN)/python -m tests.upgrade $(if $(COMMIT),--commit $(COMMIT))

# Exported students on an emulated ARM processor, by QEMU: root, Debian's qemu-user-static and debootstrap; it takes some minutes.
test-arm: setup
	$(BIN)/python -m tests.arm

bench: setup .venv-bench/ready
	$(BIN)/python -m benchmarks.main_job
	$(BIN)/python -m benchmarks.main_job --profile
	$(BIN)/python -m benchmarks.limits --profile

bench-labels: .venv-bench/ready
	.venv-bench/bin/python -m benchmarks.labels
	.venv-bench/bin/python -m benchmarks.sharing

# Exported students beside torch, on Fashion-MNIST. TIMES=1 measures the times alone, once the students are there: on a quiet machine.
bench-export: setup
	$(BIN)/python -m benchmarks.exports $(if $(TIMES),--times)

bench-scale: setup
	$(BIN)/python -m benchmarks.scale --profile
	$(BIN)/python -m benchmarks.small_stages --profile

# Preparing a folder of images, beside decoding alone and torchvision's loader; then what views cost. IMAGES=20000 for more.
bench-images: setup
	$(BIN)/python -m benchmarks.images $(if $(IMAGES),--images $(IMAGES))
	$(BIN)/python -m benchmarks.views

# What docs/results.md and the README report of, trained again; it says first how long it takes. SECTIONS="mnist" for a part.
reproduce: setup
	$(BIN)/python -m benchmarks.reproduce $(SECTIONS)

# A bare machine with a CUDA card: its own Python with torch, no .venv and no package index. OUT=… is where the report goes,
# SECTIONS="steps stacks" runs some. `make gpu-wheels` elsewhere first: .gpu-wheels is to be carried there.
gpu: PYTHON := $(if $(filter file,$(origin PYTHON)),python3,$(PYTHON))
gpu:
	$(PYTHON) -m benchmarks.gpu.bare_machine $(if $(OUT),--out $(OUT)) $(if $(SECTIONS),--only $(SECTIONS))

gpu-wheels: setup
	$(BIN)/python -m benchmarks.gpu.wheels

# The same on the CPU, with small sizes.
gpu-dry: setup
	$(BIN)/python -m benchmarks.gpu --dry $(if $(OUT),--out $(OUT)) $(if $(SECTIONS),--only $(SECTIONS))

# torchdistill has needs of its own; 1.1.4 is its last version with a cache of the teacher's outputs.
.venv-bench/ready: pyproject.toml constraints.txt
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet -c constraints.txt -e '.[worker]' torchdistill==1.1.4 pyarrow
	touch $@

clean:
	rm -rf .venv .venv-bench .venv-executorch .venv-lowest .distill .fuzz .arm .bench-export .reproduce .gpu-site gpu-report build dist site
