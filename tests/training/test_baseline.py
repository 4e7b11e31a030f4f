"""The baseline: statistics by hand, what it is fitted on, and the script from end to end."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from rfcx_tf.core.config import Config, save_config
from rfcx_tf.core.errors import UserError
from rfcx_tf.frontend.frontend import FrontEnd
from rfcx_tf.labels.annotations import read_kaggle_folder
from rfcx_tf.scoring.score_table import class_columns, read_scores
from rfcx_tf.scoring.scorer import score_blocks
from rfcx_tf.shards.make import make_shards
from rfcx_tf.shards.records import ShardReader
from rfcx_tf.training.baseline import cross_validate, fit_baseline, pool_crops, pooled_statistics

ROOT = Path(__file__).resolve().parents[2]
UNKNOWN_WEIGHT = 0.25


@pytest.fixture(scope="module")
def config(tiny_config) -> Config:
    """With weak negatives: the tiny FP rows are all silence and tell no tone from another."""
    loss = tiny_config.loss.model_copy(update={"unknown_negative_weight": UNKNOWN_WEIGHT})
    return tiny_config.model_copy(update={"loss": loss})


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


def test_crops_carry_the_labels_and_weights_of_the_loss(reader, crops):
    index = reader.index.iloc[crops.rows]
    assert sorted(index["kind"].unique()) == ["fp", "tp"]
    is_tp = (index["kind"] == "tp").to_numpy()
    species = [c.species_id for c in reader.manifest.classes]
    own = np.array([species.index(number) for number in index["species_id"]])
    every = np.arange(len(own))
    np.testing.assert_array_equal(crops.target[every, own], is_tp)
    np.testing.assert_array_equal(crops.weights[every, own], 1)
    # A class that no row in the crop names counts as absent in crops with a call, nowhere else.
    assert set(crops.weights[is_tp].ravel()) == {np.float32(UNKNOWN_WEIGHT), np.float32(1)}
    without_call = crops.target.max(axis=1) == 0
    assert without_call.any()
    assert set(crops.weights[without_call].ravel()) == {0, 1}


@pytest.mark.parametrize("fold", [0, 1])
def test_nothing_of_held_out_recordings_is_fitted_on(reader, config, crops, fold):
    classes = reader.manifest.classes
    scorer, _ = fit_baseline(crops, classes, config, fold, 1.0)
    held_out = crops.folds == fold
    names = reader.index["recording_id"].iloc[crops.rows]
    assert set(names[held_out]) == set(reader.manifest.audio_sources(fold))
    # Neither as rows nor by another way, such as the scaling.
    spoilt = np.where(held_out[:, np.newaxis], np.nan, crops.statistics)
    other, _ = fit_baseline(replace(crops, statistics=spoilt), classes, config, fold, 1.0)
    windows = np.random.default_rng(0).normal(0, 1, (5, config.crop_frames, config.frontend.bands))
    expected = scorer.score_windows(windows.astype(np.float32))
    np.testing.assert_array_equal(other.score_windows(windows.astype(np.float32)), expected)


def test_class_without_positives_or_without_negatives_scores_0(reader, config, crops):
    target, weights = crops.target.copy(), crops.weights.copy()
    target[:, 1] = 0
    weights[target[:, 2] == 0, 2] = 0
    spoilt = replace(crops, target=target, weights=weights)
    scorer, fitted = fit_baseline(spoilt, reader.manifest.classes, config, 0, 1.0)
    assert fitted.tolist() == [True, False, False]
    windows = np.random.default_rng(0).normal(0, 1, (5, config.crop_frames, config.frontend.bands))
    probability = scorer.score_windows(windows.astype(np.float32))
    assert (probability[:, 0] > 0).all()
    assert (probability[:, 1:] == 0).all()


def test_recording_scores_the_maximum_over_windows_half_a_crop_apart(reader, config, crops):
    scorer, _ = fit_baseline(crops, reader.manifest.classes, config, 0, 1.0)
    length, hop = config.crop_frames, config.frontend.hop_length
    random = np.random.default_rng(3)
    # Two and a quarter crops, then half of one.
    for samples in (9 * length * hop // 4, length * hop // 2):
        waveform = random.normal(0, 0.1, (1, samples)).astype(np.float32)
        missing = max(0, (length - 1) * hop - samples)
        spectrogram = FrontEnd(config.frontend)(np.pad(waveform, [(0, 0), (0, missing)]))[0]
        starts = {*range(0, len(spectrogram) - length + 1, length // 2)}
        windows = [spectrogram[s : s + length] for s in starts | {len(spectrogram) - length}]
        expected = scorer.score_windows(np.stack(windows)).max(axis=0)
        rate_hz = config.frontend.sample_rate_hz
        blocks = ({rate_hz: block} for block in np.array_split(waveform[0], 7))
        np.testing.assert_allclose(score_blocks(scorer, blocks).scores, expected, rtol=1e-6)


def test_script_writes_valid_scores_of_all_recordings(tiny_data, config, tmp_path, run_script):
    # Log-mel: PCEN's smoother starts up in the first window, louder to it than the tones, and
    # no crop is there to learn that from.
    frontend = config.frontend.model_copy(update={"compression": "log"})
    config = config.model_copy(update={"frontend": frontend})
    shards, truth = tmp_path / "shards", tiny_data / "train_truth.csv"
    make_shards(read_kaggle_folder(tiny_data), config, tiny_data, shards, progress=False)
    save_config(config, tmp_path / "tiny.yaml")
    result = run_script(
        *("baseline", "--config", tmp_path / "tiny.yaml", "--tfrecords", shards),
        *("--out", tmp_path / "out", "--truth", truth),
    )
    assert result.returncode == 0, result.stderr
    assert "Fold 1: fitted 3 of 3 classes on " in result.stdout
    value = float(result.stdout.split("LWLRAP ")[1].split()[0])
    assert value > 0.95  # chance: 0.81
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["oof_scores.csv"]
    scores = read_scores(tmp_path / "out" / "oof_scores.csv")
    assert class_columns(scores) == ["s2", "s5", "s9"]
    assert sorted(scores["recording_id"]) == sorted(pd.read_csv(truth)["recording_id"])
    assert scores[class_columns(scores)].stack().between(0, 1).all()


def test_unreadable_recording_is_listed_and_the_rest_scored(
    tiny_data, tiny_shards, reader, config, tmp_path
):
    sources = reader.manifest.audio_sources(0)
    for name in sources:
        samples, rate = soundfile.read(sources[name].path)
        (tmp_path / "train").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "train" / f"{name}.flac", samples, rate)
    bad = min(sources)
    (tmp_path / "train" / f"{bad}.flac").write_bytes(b"not a sound")
    predictions = cross_validate(
        config,
        tiny_shards,
        [0],
        c=1.0,
        data_dir=tmp_path,
        progress=False,
        report=lambda _: None,
    )
    assert sorted(predictions.scores["recording_id"]) == sorted(set(sources) - {bad})
    assert len(predictions.failed) == 1
    assert bad in predictions.failed[0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"c": 0.0}, "C must be a positive number"),
        ({"folds": [2]}, "A fold must lie between 0 and 1"),
        ({"data_dir": Path("nowhere")}, "Say with --data where they are"),
    ],
)
def test_bad_input_is_refused(config, tiny_shards, changed, message):
    arguments = {"folds": [0], "c": 1.0, **changed}
    with pytest.raises(UserError, match=message):
        cross_validate(config, tiny_shards, **arguments)


def test_another_front_end_is_refused_in_one_line(tiny_shards, config, tmp_path, run_script):
    save_config(config, tmp_path / "tiny.yaml")
    result = run_script(
        *("baseline", "--config", tmp_path / "tiny.yaml", "--tfrecords", tiny_shards),
        *("--out", tmp_path / "out", "--set", "frontend.n_mels=48"),
    )
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("error: Shards must be made with")
    assert "Traceback" not in result.stderr
