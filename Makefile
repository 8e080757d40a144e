# install, demo, test, check, docs, chaos, cases, fuzz, bench, glas, dist: each does its own set-up. Needs Python >= 3.11 and a package registry.

PYTHON ?= python3
UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := demo
DEMO_DB := --db $(DEMO)/searcher.db
SEARCHER := SEARCHER_CACHE=$(DEMO)/cache $(BIN)/searcher
COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --group dev --all-extras \
	--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

# Without bytecode on disk every process compiles what it imports, torch and Ray's workers included: ten seconds each time.
unexport PYTHONDONTWRITEBYTECODE

# Of the generated tests; SEED=N make test repeats those of the run that printed N.
ifndef SEED
SEED := $(shell od -An -N3 -tu4 /dev/urandom | tr -d ' ')
endif

.PHONY: install demo test check docs chaos cases fuzz bench glas lock packaging dist release chromium clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "searcher needs Python 3.11 or newer: make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV), some 5 GB the first time"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

# A search from coarse to fine on synthetic glands; its winner exported, measured on glands of other patients, and used.
demo: install
	@mkdir -p $(DEMO)
	@$(SEARCHER) launch --study unet-demo-finetune --with-parents $(DEMO_DB) --storage $(DEMO)/runs
	@for study in unet-demo unet-demo-narrow unet-demo-finetune; do $(SEARCHER) trials --study $$study $(DEMO_DB); done
	@$(SEARCHER) refine unet-demo $(DEMO_DB)
	@$(SEARCHER) best --study unet-demo-finetune $(DEMO_DB) --plot $(DEMO)/study.html
	@$(SEARCHER) export --study unet-demo-finetune $(DEMO_DB) --to $(DEMO)/bundle --force
	@test -d $(DEMO)/glands || $(SEARCHER) data draw --to $(DEMO)/glands
	@$(SEARCHER) evaluate $(DEMO)/bundle --data $(DEMO)/glands --json $(DEMO)/evaluation.json --report $(DEMO)/report.html
	@$(SEARCHER) predict $(DEMO)/bundle $(DEMO)/glands/testA_1.png $(DEMO)/glands/testA_2.png --to $(DEMO)/predictions --force
	@echo "database: $(DEMO)/searcher.db   checkpoints and logs: $(DEMO)/runs   images: $(DEMO)/glands"
	@echo "study:    $(DEMO)/study.html    winner: $(DEMO)/bundle    report: $(DEMO)/report.html    predictions: $(DEMO)/predictions"

# Two processes more than CI has cores: those with Ray mostly wait. tests/conftest.py says what goes to one as a whole.
test: install chromium
	$(BIN)/python -m pytest -m "not packaging and not chaos and not case" $(addprefix --ignore tests/,chaos cases packaging) \
		-n 4 --dist loadfile --no-loadscope-reorder \
		--hypothesis-seed $(SEED) --durations 30 --durations-min 5

# The generated tests with many more examples, half an hour; FUZZ=NAME runs those of that name.
EXAMPLES := 2000
fuzz: install
	SEARCHER_FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/fuzz \
		$(addprefix tests/searcher/prediction/test_,outlines.py components.py dense.py) -n 2 --hypothesis-seed $(SEED) --timeout 7200 $(if $(FUZZ),-k $(FUZZ))

# For the tests that open the dashboard in a browser: Debian's package, where it can be installed.
chromium:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { \
		command -v apt-get >/dev/null && test "$$(id -u)" = 0 && echo "installing chromium" && \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null; \
	} || echo "no Chromium: the tests that open the dashboard in a browser are skipped; apt-get install chromium as root"

# Faults as scripts, ours or those of another folder: make cases CASES=DIR.
cases: install
	$(BIN)/python -m pytest tests/cases -n 2 $(if $(CASES),--cases $(CASES))

# One process more than CI has cores: the tests wait for half of their time. tests/chaos/conftest.py has their order.
chaos: install
	$(BIN)/python -m pytest tests/chaos tests/cases -n 3 --dist loadfile --no-loadscope-reorder $(if $(FAULT_TABLE),--fault-table $(FAULT_TABLE))

packaging: install
	$(BIN)/python -m pytest -m packaging tests/packaging

# The source distribution and the wheel, for who installs without a checkout.
dist: install
	@rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .

# What is signed and published; docs/CONTRIBUTING.md has the steps before and after.
release: install
	@test -z "$$(git status --porcelain)" || { echo "the working tree must be as committed; commit or stash"; exit 2; }
	@! grep -n 'example\.org' pyproject.toml || { echo "pyproject.toml: project.urls must be the repository's, got example.org; write them"; exit 2; }
	@$(MAKE) --no-print-directory dist
	cd dist && sha256sum gland_searcher-* > SHA256SUMS

check: install docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@cp requirements.lock $(VENV)/fresh.lock && $(COMPILE) -o $(VENV)/fresh.lock && \
		diff -u requirements.lock $(VENV)/fresh.lock || { echo "requirements.lock is stale: run make lock"; exit 1; }

# The documentation as a site, in build/site. Broken links, headings that are linked but missing and wrong docstrings are errors.
docs: install
	NO_MKDOCS_2_WARNING=true $(BIN)/python -m mkdocs build --strict --quiet

bench: install
	$(BIN)/python tests/benchmarks/stream_throughput.py $(if $(GLAS_ROOT),--data $(GLAS_ROOT))
	$(BIN)/python tests/benchmarks/stream_memory.py
	$(BIN)/python tests/benchmarks/metrics_speed.py $(if $(GLAS_ROOT),--data $(GLAS_ROOT))

# The whole way on the real images, both models: search, then the winners on test A. Goes on where it was. The Mask R-CNN is the one
# whose first weights need no other host; with COCO's: make glas GLAS_ROOT=DIR MASKRCNN=maskrcnn-finetune
GLAS := --db glas/searcher.db --storage glas/runs
MASKRCNN := maskrcnn-lite
glas: install
	@test -n "$(GLAS_ROOT)" || { echo "GLAS_ROOT: must name the folder of the GlaS release; make glas GLAS_ROOT=DIR"; exit 2; }
	@mkdir -p glas
	$(BIN)/searcher launch --study unet-instances-folds --with-parents --data $(GLAS_ROOT) $(GLAS)
	$(BIN)/searcher export --study unet-instances-folds --ensemble --tune --db glas/searcher.db --to glas/unet --force
	$(BIN)/searcher evaluate glas/unet --data $(GLAS_ROOT) --json glas/unet.json --report glas/unet.html
	$(BIN)/searcher launch --study $(MASKRCNN) --with-parents --data $(GLAS_ROOT) $(GLAS)
	$(BIN)/searcher export --study $(MASKRCNN) --db glas/searcher.db --to glas/maskrcnn --force
	$(BIN)/searcher evaluate glas/maskrcnn --data $(GLAS_ROOT) --json glas/maskrcnn.json --report glas/maskrcnn.html

lock: install
	$(COMPILE) --upgrade -o requirements.lock

clean:
	rm -rf $(DEMO) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
