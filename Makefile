# The commands of this repository. What they do on this machine is in deploy/local/router; the rest is cargo.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

ROUTER := deploy/local/router
CARGO := cargo
# The same profile and the same packages as those of `make up`: another choice would compile half of it again.
PROGRAMS := --release --locked --bins -p ingest-edge -p stream-workers -p control-plane -p router-tools
TOOLS := $(CARGO) build --quiet $(PROGRAMS) && $${CARGO_TARGET_DIR:-target}/release/router-tools

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  \033[1m%-10s\033[0m %s\n", $$1, $$2}'

up: ## start Kafka, PostgreSQL and the product; again: only what is missing
	@$(ROUTER) up
down: ## stop what `make up` started
	@$(ROUTER) down
clean: ## stop it and forget its data
	@$(ROUTER) clean
status: ## what runs where
	@$(ROUTER) status
scale: ## run N workers of a role: make scale ROLE=deliver N=3
	@$(ROUTER) scale "$(ROLE)" "$(N)"

demo: ## after `make up`: webhooks of many providers, and what becomes of each
	@$(TOOLS) demo
send: ## post a JSON Lines file: make send FILE=events.jsonl [RATE= CONCURRENCY= REPEAT=]
	@$(if $(FILE),,echo "usage: make send FILE=events.jsonl [RATE=] [CONCURRENCY=] [REPEAT=]" >&2; exit 64)
	@$(TOOLS) send --file "$(FILE)" $(if $(RATE),--rate "$(RATE)") $(if $(CONCURRENCY),--concurrency "$(CONCURRENCY)") $(if $(REPEAT),--repeat "$(REPEAT)")

test: ## everything that fits, on a stack of its own: make test [ARGS='-p ingest-edge']
	@$(ROUTER) test $(ARGS)
soak: ## what takes longer: outages of minutes, rebalance storms, long fuzzing
	@$(ROUTER) soak
bench: ## measure this machine, report in target/bench: make bench [PART=edge]
	@$(TOOLS) bench $(PART)

train: ## make the classifier's model again: make train [CORRECTIONS=file] [OUT=directory] [RESERVED=file]
	@RESERVED="$(if $(RESERVED),$(abspath $(RESERVED)))" stream-workers/classifier/run train \
	  $(if $(CORRECTIONS),--corrections "$(abspath $(CORRECTIONS))") $(if $(OUT),--out "$(abspath $(OUT))")
eval: ## measure it on labelled webhooks: make eval FILE=webhooks.jsonl [MODEL=directory]
	@$(if $(FILE),,echo "usage: make eval FILE=webhooks.jsonl" >&2; exit 64)
	@stream-workers/classifier/run eval "$(abspath $(FILE))" $(if $(MODEL),--model "$(abspath $(MODEL))")
compare: ## other designs of the classifier beside it, into its card (about 15 minutes)
	@stream-workers/classifier/run compare

fmt: ## format
	$(CARGO) fmt --all
lint: ## clippy, warnings denied
	$(CARGO) clippy --release --workspace --all-targets --locked -- -D warnings
doc: ## rustdoc, warnings denied
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --release --workspace --no-deps --locked
schemas: ## write schemas/generated from the types
	$(CARGO) run --release --locked -p router-schemas -- write

compose-env: ## write the .env that docker-compose.kafka.yml needs
	@deploy/local/compose-env

.PHONY: help up down clean status scale demo send test soak bench train eval compare fmt lint doc schemas compose-env
