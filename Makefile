# Two commands do everything: `make demo` shows one purchase from checkout to letters, `make test` runs every test.
# ARGS passes arguments on: make test ARGS="tests/unit -k money"

PYTHON ?=
ARGS ?=
VENV := .venv/bin
SETUP := PYTHON="$(PYTHON)" deploy/dev/setup.sh
# Images of continuous integration set it; then every process compiles all that it imports, and tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE
# What a shell adds for other projects would stand before ours: `shared` is a name that others use, too.
unexport PYTHONHOME PYTHONPATH

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-compose simulate test test-containers check referees sabotage proof chaos-letters chaos-door chaos-cluster sbom bench profile lock

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv with the locked requirements and the commands cb-dev and cb-ops
	@$(SETUP) box

demo: ## Bring the box up, buy one session, show each hop until the letters; stays until Ctrl-C
	@$(SETUP) box
	@$(VENV)/cb-dev demo $(ARGS)

demo-compose: ## Tell the same story in docker-compose.yml's stack, from nothing, then take it down (ARGS=--stay leaves it); needs Docker
	@$(SETUP) box
	@$(VENV)/cb-dev demo-compose $(ARGS)

simulate: ## Let customers of 20 seeds pay, fail and dispute on bad days; expect that all books agree (25 minutes)
	@$(SETUP) box
	@$(VENV)/cb-dev simulate --seeds 20 --rate 5 --for 60 --bad-days $(ARGS)

test: ## Run every test, in parallel
	@$(SETUP) tests
	@$(VENV)/pytest -n auto $(ARGS)

test-containers: ## Measure our images, and run contract and journeys on postgres:18 and apache/kafka:4.4.0; needs Docker
	@$(SETUP) tests
	@docker version --format 'Docker {{.Server.Version}}' 2>/dev/null || { echo 'test-containers: no Docker engine answers; `make test` needs none' >&2; exit 1; }
	@$(VENV)/python -m tests.images
	@CB_TESTS_CONTAINERS=1 $(VENV)/pytest -n auto tests/contract tests/journey $(ARGS)

check: ## Run lint, format check, types, import rules, the rules of what ships, a look for secrets, the judges of the chart, and the referees
	@$(SETUP) tests
	@$(VENV)/ruff check
	@$(VENV)/ruff format --check
	@$(VENV)/mypy
	@$(VENV)/lint-imports
	@$(VENV)/python -m tests.shipping
	@$(VENV)/python -m tests.chart
	@$(VENV)/pytest -q tests/architecture
	@$(VENV)/python -m tests.referees

referees: ## Let Stripe's own types, specification, mock and command line judge the sandbox (needs Go and Node)
	@$(SETUP) tests
	@$(VENV)/python -m tests.referees $(ARGS)

sabotage: ## Plant known faults into a copy, one by one, and expect a red test for each
	@$(SETUP) tests
	@$(VENV)/python -m tests.sabotage $(ARGS)

proof: ## Prove what a payment ends as, in full (half an hour at most), and write docs/proofs.md
	@$(SETUP) tests
	@$(VENV)/python -m tests.proof $(ARGS)

chaos-letters: ## Do to the letters what mail servers and kills do, in full, and write docs/letters.md
	@$(SETUP) tests
	@$(VENV)/python -m tests.chaos.letters $(ARGS)

chaos-door: ## Attack the door and take Kafka away from it, in full (ten minutes at most), and write its part of docs/bench.md
	@$(SETUP) tests
	@$(VENV)/python -m tests.chaos.door $(ARGS)

chaos-cluster: ## Kill and restart what deploy/cluster/compose.yml runs, under load, and write its part of docs/scaling.md (a quarter of an hour); needs Docker
	@$(SETUP) tests
	@$(VENV)/python -m tests.chaos.cluster $(ARGS)

sbom: ## Write sbom.cdx.json: what production runs, by the lock, as CycloneDX
	@$(SETUP) tests
	@$(VENV)/cyclonedx-py requirements requirements/runtime.txt --pyproject pyproject.toml --output-reproducible --of JSON -o sbom.cdx.json

bench: ## Measure every figure of docs/bench.md (a quarter of an hour), or with ARGS=--quick some of each
	@$(SETUP) tests
	@$(VENV)/python -m tests.bench $(ARGS)

profile: ## Draw where the time of each process goes under load: a flame graph each in .dev/profiles
	@$(SETUP) tests
	@$(VENV)/python -m tests.bench.profile

# In this order: each list is resolved within the ones before it.
LISTS := runtime world box tests browser uv
COMPILE := pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url

lock: ## Resolve requirements/*.in, Kafka's jars and the referees' npm packages anew
	@$(SETUP) box
	@uv=$$(command -v uv || ls $(CURDIR)/.uv/bin/uv $(CURDIR)/.uv/target/bin/uv 2>/dev/null | head -n 1); cd requirements && \
		for list in $(LISTS); do UV_SYSTEM_CERTS=1 $$uv $(COMPILE) $$list.in -o $$list.txt || exit 1; done
	@$(VENV)/python -m deploy.dev.jars.pin
	@cd tests/referees && npm install --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund
