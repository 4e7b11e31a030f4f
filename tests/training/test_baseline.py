"""The baseline: statistics by hand, what it is fitted on, and its run."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rfcx_tf.cli.main import main
from rfcx_tf.core.config import BaselineConfig, Config, LossConfig, save_config
from rfcx_tf.core.errors import UserError
from rfcx_tf.frontend.frontend import FrontEnd
from rfcx_tf.labels.annotations import read_kaggle_folder
from rfcx_tf.runs.join import join_folds
from rfcx_tf.runs.open import open_run
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.baseline import BaselineScorer, pooled_statistics
from rfcx_tf.scoring.load import load_scorer, load_together
from rfcx_tf.scoring.predict import predict_recordings
from rfcx_tf.scoring.score_table import read_scores
from rfcx_tf.scoring.scorer import score_blocks
from rfcx_tf.serving.export import check_exportable
from rfcx_tf.shards.make import make_shards
from rfcx_tf.shards.records import ShardReader, read_manifest
from rfcx_tf.training import regression_folds
from rfcx_tf.training.baseline import pool_crops, train_baseline
from rfcx_tf.training.regression_folds import fit_fold

QUIET = {"progress": False, "report": lambda line: None}
UNKNOWN_WEIGHT = 0.25


@pytest.fixture(scope="module")
def config(tiny_config) -> BaselineConfig:
    """With weak negatives: the tiny FP rows are all silence and tell no tone from another."""
    values = tiny_config.model_dump()
    values["loss"]["unknown_negative_weight"] = UNKNOWN_WEIGHT
    return BaselineConfig.model_validate(values)


@pytest.fixture(scope="module")
def reader(tiny_shards):
    return ShardReader(tiny_shards)


@pytest.fixture(scope="module")
def crops(reader, config):
    return pool_crops(reader, config)


def test_pooled_statistics_by_hand():
    windows = np.float32([[[1, 5], [3, 5], [8, 5]], [[0, -1], [0, -4], [6, -7]]])
    expected = np.concatenate([windows.mean(1), windows.std(1), windows.max(1)], axis=1)
    assert expected[0, [0, 4, 5]].tolist() == [4, 8, 5]
    np.testing.assert_allclose(pooled_statistics(windows), expected, rtol=1e-6)


def test_crops_carry_the_labels_and_weights_of_the_loss(reader, config, crops, monkeypatch):
    # Of the other folds' crops; here there is no other fold than 9.
    monkeypatch.setattr(regression_folds, "fit_regressions", lambda x, target, weights, *_: weights)
    weights = fit_fold(crops, 9, config.loss, 1.0)
    index = reader.index.iloc[crops.rows]
    assert sorted(index["kind"].unique()) == ["fp", "tp"]
    is_tp = (index["kind"] == "tp").to_numpy()
    species = [c.species_id for c in reader.manifest.classes]
    own = np.array([species.index(number) for number in index["species_id"]])
    every = np.arange(len(own))
    np.testing.assert_array_equal(crops.target[every, own], is_tp)
    np.testing.assert_array_equal(weights[every, own], 1)
    # A class that no row in the crop names counts as absent in crops with a call, nowhere else.
    assert set(weights[is_tp].ravel()) == {np.float32(UNKNOWN_WEIGHT), np.float32(1)}
    without_call = crops.target.max(axis=1) == 0
    assert without_call.any()
    assert set(weights[without_call].ravel()) == {0, 1}


@pytest.mark.parametrize("fold", [0, 1])
def test_nothing_of_held_out_recordings_is_fitted_on(reader, config, crops, fold):
    regressions = fit_fold(crops, fold, config.loss, 1.0)
    held_out = crops.folds == fold
    names = reader.index["recording_id"].iloc[crops.rows]
    assert set(names[held_out]) == set(reader.manifest.audio_sources(fold))
    # Neither as rows nor by another way, such as the scaling.
    spoilt = np.where(held_out[:, np.newaxis], np.nan, crops.features)
    other = fit_fold(replace(crops, features=spoilt), fold, config.loss, 1.0)
    features = np.random.default_rng(0).normal(0, 1, (5, crops.features.shape[1]))
    np.testing.assert_array_equal(other.probability(features), regressions.probability(features))


def test_class_without_positives_or_without_negatives_scores_0(config, crops):
    target, known = crops.target.copy(), crops.known.copy()
    target[:, 1] = 0
    known[target[:, 2] == 0, 2] = 0
    loss = LossConfig(unknown_negative_weight=0)
    regressions = fit_fold(replace(crops, target=target, known=known), 0, loss, 1.0)
    assert regressions.fitted.tolist() == [True, False, False]
    features = np.random.default_rng(0).normal(0, 1, (5, crops.features.shape[1]))
    probability = regressions.probability(features).numpy()
    assert (probability[:, 0] > 0).all()
    assert (probability[:, 1:] == 0).all()


def test_recording_scores_the_maximum_over_windows_half_a_crop_apart(reader, config, crops):
    regressions = fit_fold(crops, 0, config.loss, 1.0)
    scorer = BaselineScorer(config, reader.manifest.classes, [regressions])
    length, hop = config.crop_frames, config.frontend.hop_length
    random = np.random.default_rng(3)
    # Two and a quarter crops, then half of one.
    for samples in (9 * length * hop // 4, length * hop // 2):
        waveform = random.normal(0, 0.1, (1, samples)).astype(np.float32)
        missing = max(0, (length - 1) * hop - samples)
        spectrogram = FrontEnd(config.frontend)(np.pad(waveform, [(0, 0), (0, missing)]))[0]
        starts = {*range(0, len(spectrogram) - length + 1, length // 2)}
        windows = [spectrogram[s : s + length] for s in starts | {len(spectrogram) - length}]
        expected = regressions.probability(pooled_statistics(np.stack(windows))).numpy().max(axis=0)
        rate_hz = config.frontend.sample_rate_hz
        blocks = ({rate_hz: block} for block in np.array_split(waveform[0], 7))
        np.testing.assert_allclose(score_blocks(scorer, blocks).scores, expected, rtol=1e-6)


@pytest.fixture(scope="module")
def baseline(tiny_data, config, tmp_path_factory) -> RunFolder:
    """A baseline by the command line, of log-mel.

    PCEN's smoother starts up in the first window, louder to it than the tones, and no crop is
    there to learn that from.
    """
    folder = tmp_path_factory.mktemp("baseline")
    frontend = config.frontend.model_copy(update={"compression": "log"})
    config = config.model_copy(update={"frontend": frontend})
    make_shards(read_kaggle_folder(tiny_data), config, tiny_data, folder / "shards", progress=False)
    save_config(config, folder / "tiny.yaml")
    command = ["train", "--config", folder / "tiny.yaml", "--set", "kind=baseline"]
    command += ["--tfrecords", folder / "shards", "--run", folder / "run"]
    assert main([str(part) for part in command]) == 0
    return open_run(folder / "run")


def test_a_baseline_is_a_run_that_predicts_and_is_evaluated(baseline, tiny_data, run_script):
    assert (baseline.kind, baseline.finished_folds) == ("baseline", [0, 1])
    assert baseline.config.c == 1.0
    assert "scikit-learn" in baseline.info.versions
    truth = tiny_data / "train_truth.csv"
    result = run_script("evaluate", "--run", baseline.path, "--truth", truth)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout.split("LWLRAP ")[1].split()[0]) > 0.95  # chance: 0.81
    scores = read_scores(baseline.path / "oof_scores.csv").set_index("recording_id")
    assert sorted(scores.index) == sorted(pd.read_csv(truth)["recording_id"])
    # What a fold held out is what its regressions alone give, and the run is their mean.
    manifest = read_manifest(Path(baseline.info.tfrecords))
    sources = manifest.audio_sources(0)
    folds = [
        predict_recordings(load_scorer(baseline, chosen), sources, progress=False).scores
        for chosen in ([0], [1], [0, 1])
    ]
    one, other, both = (table.set_index("recording_id") for table in folds)
    pd.testing.assert_frame_equal(one, scores.loc[one.index], check_exact=False)
    pd.testing.assert_frame_equal(both, (one + other) / 2)
    # With others it is a member of an ensemble, and nothing to export.
    assert load_together([baseline, baseline]).card.columns == ["s2", "s5", "s9"]
    with pytest.raises(UserError, match="is a baseline: distil"):
        check_exportable([baseline])


def test_unreadable_recording_is_listed_and_the_rest_scored(
    tiny_data, tiny_shards, reader, config, tmp_path
):
    data = shutil.copytree(tiny_data, tmp_path / "data")
    bad = min(reader.manifest.audio_sources(0))
    (data / "train" / f"{bad}.flac").write_bytes(b"not a sound")
    run = train_baseline(config, tiny_shards, tmp_path / "run", [0], data_dir=data, **QUIET)
    (failed,) = run.figures(0)["recordings_failed"]
    assert bad in failed
    scored = read_scores(run.path / "oof_scores.csv")["recording_id"]
    assert sorted(scored) == sorted(set(reader.manifest.audio_sources(0)) - {bad})
    # What is finished is not done again, and nothing else goes on in its folder.
    before = (run.fold(0) / "done.json").stat().st_mtime_ns
    train_baseline(config, tiny_shards, run.path, [0], data_dir=data, **QUIET)
    assert (run.fold(0) / "done.json").stat().st_mtime_ns == before
    other = config.model_copy(update={"c": 0.5})
    with pytest.raises(UserError, match=r"began with c = 1\.0, not 0\.5"):
        train_baseline(other, tiny_shards, run.path, [0], data_dir=data, **QUIET)
    with pytest.raises(UserError, match="began with baseline, not detector"):
        RunFolder.create(run.path, Config(), reader.manifest, tiny_shards)
    with pytest.raises(UserError, match="Folds of detectors are joined"):
        join_folds([run], tmp_path / "joined")


def test_a_recording_that_is_cut_short_is_scored_as_far_as_it_goes_and_listed(
    tiny_data, tiny_shards, reader, config, tmp_path, run_script
):
    data = shutil.copytree(tiny_data, tmp_path / "data")
    name = min(reader.manifest.audio_sources(0))
    file = data / "train" / f"{name}.flac"
    file.write_bytes(file.read_bytes()[:-20_000])
    save_config(config, tmp_path / "recipe.yaml")
    for _ in range(2):
        result = run_script(
            *("train", "--config", tmp_path / "recipe.yaml", "--tfrecords", tiny_shards),
            *("--run", tmp_path / "run", "--fold", 0, "--data", data),
        )
        assert result.returncode == 1
        *_, head, line = result.stderr.splitlines()
        assert head == "Listened to as far as they go, 1 in all:"
        assert f"{file} is cut short at" in line
    assert name in read_scores(tmp_path / "run" / "oof_scores.csv")["recording_id"].to_list()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"folds": [2]}, "A fold must lie between 0 and 1"),
        ({"data_dir": Path("nowhere")}, "Say with --data where they are"),
    ],
)
def test_bad_input_is_refused(config, tiny_shards, tmp_path, changed, message):
    with pytest.raises(UserError, match=message):
        train_baseline(config, tiny_shards, tmp_path / "run", **{"folds": [0], **changed})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "frontend.n_mels=48"], "error: Shards must be made with"),
        (["--set", "c=0"], "c: Input should be greater than 0"),
        (["--start", "runs/a"], "error: --start does not go with a baseline's recipe."),
        (["--pseudo", "labels"], "error: --pseudo does not go with a baseline's recipe."),
        (["--set", "kind=forest"], "kind must be one of detector, listener, baseline. Received"),
        (["--model", "x"], "error: --model does not go with a baseline's recipe."),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(
    arguments, message, tiny_shards, config, tmp_path, run_script
):
    save_config(config, tmp_path / "tiny.yaml")
    result = run_script(
        *("train", "--config", tmp_path / "tiny.yaml", "--tfrecords", tiny_shards),
        *("--run", tmp_path / "out", *arguments),
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and message in line
