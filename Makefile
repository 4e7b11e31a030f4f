# `make demo` and `make test` build .venv by themselves and reuse it until requirements.txt changes.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
DEMO_CONFIG := configs/demo.yaml

.PHONY: demo test environment clean-demo

# The main job from beginning to end on a small synthetic rainforest. Data, shards and training
# that are there already are kept; `make clean-demo` starts over.
demo: environment
	$(BIN)/python scripts/make_demo_data.py --out demo/data
	$(BIN)/python scripts/make_tfrecords.py --config $(DEMO_CONFIG) --data demo/data --out tfrecords/demo
	$(BIN)/python scripts/train.py --config $(DEMO_CONFIG) --tfrecords tfrecords/demo --run runs/demo
	$(BIN)/python scripts/evaluate.py --run runs/demo --truth demo/data/train_truth.csv
	$(BIN)/python scripts/predict.py --run runs/demo --audio demo/data/test --out demo/submission.csv --like demo/data/sample_submission.csv
	$(BIN)/python scripts/evaluate.py --scores demo/submission.csv --truth demo/data/test_truth.csv --species demo/data/species.csv
	$(BIN)/python scripts/export.py --run runs/demo --out exported/demo
	@echo "Look at runs/demo/fold0/validation.png, or run: $(BIN)/tensorboard --logdir runs"

test: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n auto --dist worksteal

environment:
	@cmp -s requirements.txt .venv/requirements.installed || $(MAKE) --no-print-directory .venv-new

.PHONY: .venv-new
.venv-new:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 11) else "The pinned packages need Python 3.11. Found %d.%d; run make PYTHON=/path/to/python3.11" % v)'
	@echo "Installing the requirements into .venv (a minute or two) ..."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.txt
	cp requirements.txt .venv/requirements.installed

clean-demo:
	rm -rf demo tfrecords/demo runs/demo exported/demo
