# `make demo` and `make test` build .venv by themselves and reuse it until its lock changes.
# PYTHON=... chooses the interpreter, and with it the set of packages; VENV=... another folder.

PYTHON ?=
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_CONFIG := configs/demo.yaml
# What `make test` runs; default: the whole suite.
TESTS ?=

.PHONY: demo test docs environment locks clean-demo

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
	$(BIN)/python -m pytest -n auto --dist worksteal $(TESTS)

# Pages of what is public from Python, made of docstrings: docs/api/index.html. A warning ends it.
docs: environment
	$(BIN)/python -m pip install --quiet -r requirements-docs.txt
	$(BIN)/python docs/make_api.py

environment:
	@scripts/environment.sh $(VENV) $(PYTHON)

# Both sets with all that they need, exact and with hashes, from requirements.txt. Versions that a
# lock has and requirements.txt still allows stay; `make locks UPGRADE=--upgrade` takes newer ones.
locks:
	uv pip compile $(UPGRADE) --quiet --no-header --generate-hashes --python-version 3.11 requirements.txt -o locks/card.txt
	uv pip compile $(UPGRADE) --quiet --no-header --generate-hashes --python-version 3.12 --universal requirements.txt -o locks/today.txt

clean-demo:
	rm -rf demo tfrecords/demo runs/demo exported/demo
