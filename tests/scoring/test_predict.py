"""Scores of whole recordings: means, maxima, short files, bad files, and the script's exit."""

import functools
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml
from refused import refused

from rfcx_tf.audio.decode import AudioSource, read_audio
from rfcx_tf.core.config import AudioConfig, Config
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.frontend.frontend import FrontEnd
from rfcx_tf.model.detector import build_detector
from rfcx_tf.runs.open import channel_of, open_run, open_runs
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring import detector as detector_module
from rfcx_tf.scoring import scorer as scorer_module
from rfcx_tf.scoring.calibration import Calibration, write_calibration
from rfcx_tf.scoring.ensemble import EnsembleScorer
from rfcx_tf.scoring.ensemble_weights import write_weights
from rfcx_tf.scoring.journal import Journal, fingerprint_runs, recording_key
from rfcx_tf.scoring.load import load_scorer, load_together
from rfcx_tf.scoring.predict import predict_recordings
from rfcx_tf.scoring.score_table import write_scores
from rfcx_tf.scoring.scorer import RecordingResult
from rfcx_tf.shards.records import read_manifest

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ["s2", "s5", "s9"]


def random_run(path, config, manifest, folds=(0, 1), seed=0) -> RunFolder:
    """A run whose detectors have random weights, as if trained."""
    run = RunFolder.create(path, config, manifest, path)
    random = np.random.default_rng(seed)
    for fold in folds:
        keras.utils.set_random_seed(seed + fold)
        detector = build_detector(config, run.info.classes, run.info.mean_box_s)
        for weight in detector.weights:
            if weight.name in ("gamma", "moving_variance"):
                weight.assign(random.uniform(0.5, 1.5, weight.shape))
        run.fold(fold).mkdir(parents=True)
        detector.save_weights(run.weights(fold))
        (run.fold(fold) / "done.json").write_text(json.dumps({"fold": fold}))
    return run


def with_running_mean(config: Config, seconds: float) -> Config:
    return config.model_copy(
        update={"prediction": config.prediction.model_copy(update={"running_mean_s": seconds})}
    )


@pytest.fixture(scope="module")
def run(tiny_config, tiny_shards, tmp_path_factory):
    path = tmp_path_factory.mktemp("predict") / "run"
    return random_run(path, tiny_config, read_manifest(tiny_shards))


def scorer_of(*paths):
    return load_together(open_runs(paths))


@functools.cache
def kept_scorer(path):
    """The scorer of a run, whose functions are traced once for all tests. Read only."""
    return scorer_of(path)


def recordings_of(folder):
    return {path.stem: path for path in sorted((folder / "train").iterdir())}


def window_scores(run, fold, waveform) -> np.ndarray:
    """[windows, classes] in float64, from the parts: front end, detector, a sigmoid."""
    detector = build_detector(run.config, run.info.classes, run.info.mean_box_s)
    detector.load_weights(run.weights(fold))
    spectrogram = FrontEnd(run.config.frontend)(waveform[None].astype(np.float32))
    return 1 / (1 + np.exp(-np.asarray(detector(spectrogram)["logits"], float)[0]))


def test_scores_are_the_maximum_over_time_averaged_over_folds(run, tiny_data):
    predictions = predict_recordings(kept_scorer(run.path), recordings_of(tiny_data))
    assert predictions.failed == {}
    scores = predictions.scores
    assert scores.columns.to_list() == ["recording_id", *COLUMNS]
    assert scores["recording_id"].to_list() == [f"tiny{number:02d}" for number in range(10)]
    for name in ("tiny00", "tiny07"):
        waveform, _ = soundfile.read(tiny_data / "train" / f"{name}.flac", dtype="float32")
        highest = [window_scores(run, fold, waveform).max(axis=0) for fold in (0, 1)]
        own = scores.set_index("recording_id").loc[name, COLUMNS]
        np.testing.assert_allclose(own, np.mean(highest, axis=0), atol=1e-5)
    assert np.abs(highest[0] - highest[1]).max() > 0.01
    assert scores[COLUMNS].std().min() > 1e-3


def test_runs_are_averaged(run, tiny_config, tiny_shards, tiny_data, tmp_path):
    other = random_run(tmp_path / "other", tiny_config, read_manifest(tiny_shards), [1], seed=5)
    some = {"tiny03": tiny_data / "train" / "tiny03.flac"}
    each = [predict_recordings(kept_scorer(r.path), some).scores for r in (run, other)]
    (other.path / "calibration.yaml").write_text("of another time")
    both = predict_recordings(scorer_of(run.path, other.path), some).scores
    assert "A calibration is YAML" in refused(scorer_of, other.path)
    expected = (each[0][COLUMNS] + each[1][COLUMNS]) / 2
    np.testing.assert_allclose(both[COLUMNS], expected, atol=1e-6)


@pytest.fixture(scope="module")
def finer_run(tiny_config, tiny_shards, tmp_path_factory):
    """Another front end and windows of another length; sound of the same rate."""
    front = tiny_config.frontend.model_copy(
        update={"n_mels": 40, "hop_length": 64, "compression": "log"}
    )
    config = tiny_config.model_copy(update={"frontend": front})
    path = tmp_path_factory.mktemp("predict") / "finer"
    return random_run(path, config, read_manifest(tiny_shards), [0], seed=7)


def test_runs_of_other_front_ends_are_combined_with_weights(run, finer_run, tiny_data):
    """Each hears the same samples with its own front end."""
    some = {f"tiny0{n}": tiny_data / "train" / f"tiny0{n}.flac" for n in (2, 3)}
    one, other = (
        predict_recordings(kept_scorer(r.path), some).scores[COLUMNS].to_numpy()
        for r in (run, finer_run)
    )
    both = EnsembleScorer([kept_scorer(r.path) for r in (run, finer_run)], [0.75, 0.25])
    weighted = predict_recordings(both, some).scores
    np.testing.assert_allclose(weighted[COLUMNS], 0.75 * one + 0.25 * other, atol=1e-6)
    assert np.abs(one - other).max() > 0.01


def test_the_highest_mean_of_windows_needs_members_that_hear_at_the_same_time(
    run, finer_run, tiny_data, tmp_path
):
    """Windows by hand: one of 1.024 s every 0.256 s, the other every 0.128 s."""
    path = tiny_data / "train" / "tiny02.flac"
    wave = soundfile.read(path, dtype="float32")[0][None]
    coarse, fine = (
        kept_scorer(r.path).score_waveform(wave)["window_scores"].numpy()[0]
        for r in (run, finer_run)
    )
    starts = np.arange(len(fine)) * 0.128
    at_fine = np.stack([np.interp(starts, np.arange(len(coarse)) * 0.256, c) for c in coarse.T], 1)
    windows = 0.75 * at_fine + 0.25 * fine
    for rule in ("mean", "window"):
        members = [kept_scorer(r.path) for r in (run, finer_run)]
        scorer = EnsembleScorer(members, [0.75, 0.25], rule)
        assert (scorer.card.window_s, scorer.card.hop_s) == pytest.approx((1.024, 0.128))
        journal = Journal(tmp_path / rule, "a")
        found = predict_recordings(scorer, {"x": path}, journal=journal, keep_windows=True)
        kept = journal.read("x").window_scores
        np.testing.assert_allclose(kept, windows, atol=1e-5)
    # The last one was by the rule `window`.
    np.testing.assert_allclose(found.scores[COLUMNS].to_numpy()[0], windows.max(axis=0), atol=1e-5)
    assert np.abs(windows.max(axis=0) - coarse.max(axis=0)).max() > 1e-3


def test_windows_that_are_smoothed_later_are_not_combined_before(
    tiny_config, tiny_shards, tmp_path
):
    config = with_running_mean(tiny_config, 3 * tiny_config.cell_s)
    smooth = random_run(tmp_path / "smooth", config, read_manifest(tiny_shards), [0])
    text = refused(load_together, [smooth], rule="window")
    assert "smooth has prediction.running_mean_s 0.768" in text


@pytest.mark.parametrize("cells", [2, 3, 4])
def test_running_mean_comes_before_the_maximum(cells, tiny_config, tiny_shards, tmp_path):
    """Over `cells` windows, over fewer at the ends; an even number reaches further ahead."""
    config = with_running_mean(tiny_config, cells * tiny_config.cell_s)
    run = random_run(tmp_path / "run", config, read_manifest(tiny_shards), [0])
    waveform = np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32)
    windows = window_scores(run, 0, waveform)
    before, after = (cells - 1) // 2, cells // 2
    means = [windows[max(0, i - before) : i + after + 1].mean(axis=0) for i in range(len(windows))]
    outputs = load_scorer(run).score_waveform(waveform[None])
    np.testing.assert_allclose(outputs["scores"][0], np.max(means, axis=0), atol=1e-5)
    # The windows themselves are given as they are.
    np.testing.assert_allclose(outputs["window_scores"][0], windows, atol=1e-5)
    starts_s = np.arange(len(windows)) * 16 * 128 / 8000
    np.testing.assert_allclose(outputs["window_start_s"], starts_s, atol=1e-6)
    assert np.abs(np.max(means, axis=0) - windows.max(axis=0)).max() > 1e-3


@pytest.mark.parametrize("samples", [500, 32000])
def test_time_shifts_average_passes_over_shifted_frames(
    samples, tiny_config, tiny_shards, tmp_path
):
    prediction = tiny_config.prediction.model_copy(update={"time_shifts": 4})
    config = tiny_config.model_copy(update={"prediction": prediction})
    run = random_run(tmp_path / "run", config, read_manifest(tiny_shards), [0])
    waveform = np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)
    model = load_scorer(run)
    spectrogram = model.spectrogram(waveform[None]).numpy()
    detector = build_detector(config, run.info.classes, run.info.mean_box_s)
    detector.load_weights(run.weights(0))
    # A quarter of the stride of 16 frames from pass to pass.
    passes = [
        np.asarray(detector(spectrogram[:, shift:])["logits"], float) for shift in (0, 4, 8, 12)
    ]
    expected = np.mean([(1 / (1 + np.exp(-p))).max(axis=1) for p in passes], axis=0)
    np.testing.assert_allclose(model.score_waveform(waveform[None])["scores"], expected, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 500, 6272, 6273])
def test_a_recording_shorter_than_a_window_has_silence_behind_it(samples, run):
    """A window of 4 cells is there from 49 frames on: 48 hops, 6144 samples."""
    waveform = np.random.default_rng(1).normal(0, 0.1, samples).astype(np.float32)
    padded = np.pad(waveform, (0, max(0, 48 * 128 - samples)))
    outputs = load_scorer(run, [1]).score_waveform(waveform[None])
    expected = window_scores(run, 1, padded)
    assert len(expected) == 1
    np.testing.assert_allclose(outputs["window_scores"][0], expected, atol=1e-5)
    np.testing.assert_allclose(outputs["scores"][0], expected[0], atol=1e-5)


def test_weights_trained_in_mixed_precision_are_used_in_float32(run):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = load_scorer(run)
        assert keras.mixed_precision.global_policy().name == "mixed_bfloat16"
    finally:
        keras.mixed_precision.set_global_policy("float32")
    waveform = np.random.default_rng(0).normal(0, 0.1, (1, 16000)).astype(np.float32)
    expected = load_scorer(run).score_waveform(waveform)["scores"]
    np.testing.assert_array_equal(model.score_waveform(waveform)["scores"], expected)


@pytest.fixture
def short_blocks(monkeypatch):
    """Blocks of 1.5 s, decoded by the second."""
    monkeypatch.setattr(scorer_module, "_BLOCK_S", 1.0)
    monkeypatch.setattr(detector_module, "BLOCK_S", 1.5)


def joined(tiny_data, path, numbers, rate_hz=8000):
    """A recording that is several of the tiny ones, one after the other."""
    names = [tiny_data / "train" / f"tiny{number:02d}.flac" for number in numbers]
    soundfile.write(path, np.concatenate([soundfile.read(name)[0] for name in names]), rate_hz)
    return path


def test_long_recordings_are_streamed_with_the_scores_of_one_pass(
    run, tiny_data, tmp_path, short_blocks
):
    """One of the sample rate of the model, one that is resampled."""
    recordings = {
        "own": joined(tiny_data, tmp_path / "own.flac", range(4)),
        "other": joined(tiny_data, tmp_path / "other.wav", range(4), 11025),
    }
    models = kept_scorer(run.path)
    parts = Journal(tmp_path / "parts", "a")
    kept = predict_recordings(models, recordings, journal=parts, keep_windows=True)
    table = kept.scores.set_index("recording_id")
    assert kept.failed == {}
    for name, seconds in (("own", 24.0), ("other", 24.0 * 8000 / 11025)):
        waveform = read_audio(recordings[name], 8000)
        expected = models.score_waveform(waveform[None])
        result = parts.read(name, recording_key(name, recordings[name]))
        assert result.duration_s == pytest.approx(seconds, abs=1e-3)
        np.testing.assert_allclose(result.window_scores, expected["window_scores"][0], atol=1e-6)
        np.testing.assert_allclose(table.loc[name, COLUMNS], expected["scores"][0], atol=1e-6)


def test_a_long_recording_that_ends_early_is_scored_as_far_as_it_goes(
    run, tiny_data, tmp_path, short_blocks
):
    whole = joined(tiny_data, tmp_path / "whole.flac", [0, 1])
    cut = tmp_path / "cut.flac"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    models, recordings = kept_scorer(run.path), {"cut": cut, "whole": whole}
    found = predict_recordings(models, recordings, journal=Journal(tmp_path / "parts", "a"))
    assert found.scores["recording_id"].to_list() == ["cut", "whole"] and found.failed == {}
    ((remark,),) = found.remarks.values()
    assert list(found.remarks) == ["cut"]
    assert remark.is_cut and "cut.flac is cut short at" in remark.text
    # What is there of it, by itself.
    there = read_audio(cut, 8000, [])
    assert 0.7 < len(there) / len(read_audio(whole, 8000)) < 0.76
    alone = tmp_path / "alone.wav"
    soundfile.write(alone, there, 8000)
    expected = predict_recordings(models, {"cut": alone}).scores
    np.testing.assert_allclose(found.scores[COLUMNS].iloc[0], expected[COLUMNS].iloc[0], atol=1e-4)
    # It is listed again by whoever goes on.
    again = predict_recordings(models, recordings, journal=Journal(tmp_path / "parts", "a"))
    assert again.remarks == found.remarks


def test_what_was_done_is_not_done_again_and_the_table_is_the_same(
    run, tiny_data, tmp_path, monkeypatch
):
    """Stopped after three recordings, a bad one among them; then to the end."""
    recordings = recordings_of(tiny_data)
    bad = tmp_path / "bad.flac"
    bad.write_bytes(b"")
    recordings = {"bad": bad, **dict(list(recordings.items())[:5])}
    models = kept_scorer(run.path)
    write_scores(predict_recordings(models, recordings).scores, tmp_path / "at_once.csv")

    done = []
    finish = detector_module._DetectorStream.finish

    def count(self):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(1)
        return finish(self)

    monkeypatch.setattr(detector_module._DetectorStream, "finish", count)
    with pytest.raises(KeyboardInterrupt):
        predict_recordings(models, recordings, journal=Journal(tmp_path / "parts", "a"))
    done[:] = [1]
    parts = Journal(tmp_path / "parts", "a")
    assert not parts.started_over
    found = predict_recordings(models, recordings, journal=parts)
    assert len(done) == 3, "two recordings were left"
    assert list(found.failed) == ["bad"] and "bad.flac" in found.failed["bad"]
    write_scores(found.scores, tmp_path / "in_parts.csv")
    assert (tmp_path / "in_parts.csv").read_bytes() == (tmp_path / "at_once.csv").read_bytes()
    parts.remove()
    assert not (tmp_path / "parts").exists()


def test_parts_are_of_one_recording_and_one_prediction(run, tiny_data, tmp_path):
    path = tmp_path / "a.flac"
    shutil.copy(tiny_data / "train" / "tiny00.flac", path)
    result = RecordingResult("a", path, 6.0, np.float32([0.1, 0.2]), np.ones((4, 2)))
    parts = Journal(tmp_path / "parts", "one")
    key = recording_key("a", path)
    parts.write(result, key)
    found = Journal(tmp_path / "parts", "one").read("a", key)
    assert (found.recording_id, found.path, found.duration_s) == ("a", path, 6.0)
    np.testing.assert_array_equal(found.scores, result.scores)
    np.testing.assert_array_equal(found.window_scores, result.window_scores)
    assert recording_key("b", path) != key
    shutil.copy(tiny_data / "train" / "tiny01.flac", path)
    changed = recording_key("a", path)
    assert parts.read("a", changed) is None
    (file,) = (tmp_path / "parts").glob("*.npz")
    file.write_bytes(file.read_bytes()[:100])
    assert parts.read("a", key) is None
    other = Journal(tmp_path / "parts", "two")
    assert other.started_over and not list((tmp_path / "parts").glob("*.npz"))


def test_damaged_parts_are_told_and_made_again(tmp_path, capsys):
    folder = tmp_path / "parts"
    parts = Journal(folder, "one")
    for name in "ab":
        parts.write(RecordingResult(name, tmp_path, 1.0, np.ones(2), np.zeros((3, 2))), "key")
    (path,) = (p for p in folder.glob("*.npz") if hashlib.sha256(b"a").hexdigest()[:32] == p.stem)
    content = bytearray(path.read_bytes())
    content[content.index(b"scores.npy") + 150] ^= 1
    path.write_bytes(content)
    assert parts.read("a", "key") is None
    assert str(path) in capsys.readouterr().err
    assert parts.read("b", "key").scores.tolist() == [1, 1]
    # Of what nobody can tell any more of which models it is, nothing is kept.
    about = folder / "about.json"
    about.write_text(about.read_text().replace("one", "ona"))
    again = Journal(folder, "one")
    assert again.started_over and again.read("b") is None
    # A folder of somebody else is left alone.
    (folder / "notes.npz").write_text("mine")
    about.write_text("mine")
    assert "Something else" in refused(Journal, folder, "one")
    assert (folder / "notes.npz").read_text() == about.read_text() == "mine"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    assert "Something else" in refused(Journal, tmp_path / "mine", "one")
    assert (tmp_path / "mine" / "thesis.txt").exists()
    assert recording_key("a", tmp_path / "gone.flac") is None


def test_fingerprint_changes_with_whatever_changes_scores(run, tmp_path):
    def fingerprint(path=run.path, overrides=(), weights=(1.0,), rule="mean", windows=False):
        return fingerprint_runs([RunFolder.open(path, overrides)], weights, rule, windows)

    trained_again = tmp_path / "again"
    shutil.copytree(run.path, trained_again)
    assert fingerprint(trained_again) == fingerprint()
    with run.weights(0).open("rb") as stream:
        weights = bytearray(stream.read())
    weights[-1] ^= 1
    RunFolder.open(trained_again).weights(0).write_bytes(weights)
    one_fold = tmp_path / "one"
    shutil.copytree(run.path, one_fold)
    (one_fold / "fold1" / "done.json").unlink()
    all_of_them = [
        fingerprint(),
        fingerprint(trained_again),
        fingerprint(one_fold),
        fingerprint(overrides=["prediction.running_mean_s=1"]),
        fingerprint(weights=(0.5,)),
        fingerprint(rule="window"),
        fingerprint(windows=True),
    ]
    assert len(set(all_of_them)) == len(all_of_them)


def test_runs_that_do_not_go_together_are_refused(run, tiny_config, tiny_shards, tmp_path):
    manifest = read_manifest(tiny_shards)
    renamed = replace(manifest, classes=[*manifest.classes[:2], SpeciesClass(10, "other")])
    other = random_run(tmp_path / "other", tiny_config, renamed, [0])
    text = refused(scorer_of, run.path, other.path)
    assert "the same classes" in text
    assert f"only in {run.path}: 1 (s9 high); only in {other.path}: 1 (s10 other)" in text


def test_runs_without_usable_weights_are_refused(tiny_config, tiny_shards, tmp_path):
    run = random_run(tmp_path / "run", tiny_config, read_manifest(tiny_shards), [])
    assert "at least one finished fold" in refused(scorer_of, run.path)
    run.fold(0).mkdir()
    (run.fold(0) / "done.json").write_text("{}")
    assert "cannot be loaded" in refused(scorer_of, run.path)
    run.weights(0).write_bytes(b"not HDF5")
    assert "cannot be loaded" in refused(scorer_of, run.path)
    assert "is not one" in refused(open_run, tmp_path)


def test_script_keeps_to_the_sample_submission(run, tiny_data, tmp_path, run_script):
    sample = tmp_path / "sample_submission.csv"
    sample.write_text("recording_id,s9,s2,s5\ntiny04,0,0,0\ntiny01,0,0,0\n")
    files = [tiny_data / "train" / f"tiny0{number}.flac" for number in (1, 2, 4)]
    out = tmp_path / "scores.csv"
    result = run_script(
        *("predict", "--run", run.path, "--audio", *files, "--out", out, "--like", sample)
    )
    assert result.returncode == 0, result.stderr
    assert f"Wrote {out}: 2 recordings, 3 species." in result.stdout
    table = pd.read_csv(out)
    assert table.columns.to_list() == ["recording_id", "s9", "s2", "s5"]
    assert table["recording_id"].to_list() == ["tiny04", "tiny01"]
    expected = predict_recordings(kept_scorer(run.path), {p.stem: p for p in files}).scores
    expected = expected.set_index("recording_id").loc[["tiny04", "tiny01"]]
    np.testing.assert_allclose(table[COLUMNS], expected[COLUMNS], atol=1e-6)


def test_script_shifts_scores_by_a_prior(run, tiny_data, tmp_path, run_script):
    prior, out = tmp_path / "prior.yaml", tmp_path / "scores.csv"
    offsets = {9: 1.5, 2: -2.0, 5: 0.0}
    species = [{"species_id": number, "offset": value} for number, value in offsets.items()]
    prior.write_text(yaml.safe_dump({"species": species}))
    recording = tiny_data / "train" / "tiny03.flac"
    result = run_script(
        *("predict", "--run", run.path, "--audio", recording, "--out", out, "--prior", prior)
    )
    assert result.returncode == 0, result.stderr
    plain = predict_recordings(kept_scorer(run.path), {"tiny03": recording}).scores
    odds = plain[COLUMNS] / (1 - plain[COLUMNS])
    odds *= np.exp([offsets[2], offsets[5], offsets[9]])
    np.testing.assert_allclose(pd.read_csv(out)[COLUMNS], odds / (1 + odds), atol=1e-6)


def test_script_combines_runs_with_a_weights_file(run, finer_run, tiny_data, tmp_path, run_script):
    write_weights(tmp_path / "weights.yaml", ["finer", "run"], [0.25, 0.75])
    recording = tiny_data / "train" / "tiny03.flac"
    out = tmp_path / "scores.csv"
    result = run_script(
        *("predict", "--run", run.path, finer_run.path, "--weights", tmp_path / "weights.yaml"),
        *("--combine", "window", "--audio", recording, "--out", out),
    )
    assert result.returncode == 0, result.stderr
    members = [kept_scorer(r.path) for r in (run, finer_run)]
    both = EnsembleScorer(members, [0.75, 0.25], "window")
    expected = predict_recordings(both, {"tiny03": recording}).scores
    np.testing.assert_allclose(pd.read_csv(out)[COLUMNS], expected[COLUMNS], atol=1e-6)


def test_script_scores_good_files_beside_a_bad_one_and_exits_1(
    run, tiny_data, tmp_path, run_script
):
    audio = tmp_path / "audio"
    audio.mkdir()
    shutil.copy(tiny_data / "train" / "tiny00.flac", audio / "a.flac")
    (audio / "b.flac").write_bytes(b"fLaC and then nothing")
    shutil.copy(tiny_data / "train" / "tiny01.flac", audio / "c.flac")
    out = tmp_path / "scores.csv"
    result = run_script("predict", "--run", run.path, "--audio", audio, "--out", out)
    assert result.returncode == 1
    assert pd.read_csv(out)["recording_id"].to_list() == ["a", "c"]
    assert "Could not be scored, 1 in all:" in result.stderr
    (line,) = [text for text in result.stderr.splitlines() if "b.flac" in text]
    assert "Traceback" not in result.stderr
    assert line.startswith("  ")


def test_script_writes_events_window_scores_and_what_it_could_not_read(
    run, tiny_data, tmp_path, run_script
):
    audio, out = tmp_path / "audio", tmp_path / "scores.csv"
    (audio / "site").mkdir(parents=True)
    for name, number in (("A_20240501_060000.FLAC", 0), ("site/b.flac", 1), ("site/c.txt", 2)):
        shutil.copy(tiny_data / "train" / f"tiny{number:02d}.flac", audio / name)
    (audio / "site" / "empty.wav").touch()
    calibration = Calibration(
        COLUMNS,
        np.float32([[-20, 20]] * 3),
        np.float32([[-10, 10]] * 3),
        np.float32([0.5, 0.45, 0.55]),
        [{"method": "platt"}] * 3,
        "a test",
    )
    write_calibration(calibration, tmp_path / "calibration.yaml")
    events, windows = tmp_path / "events.csv", tmp_path / "windows.parquet"
    arguments = ["--run", run.path, "--audio", audio, "--out", out, "--events", events]
    arguments += ["--window-scores", windows, "--calibration", tmp_path / "calibration.yaml"]
    result = run_script("predict", *arguments)
    assert result.returncode == 1
    assert "Could not be scored, 2 in all:" in result.stderr
    assert "site/empty.wav is empty" in result.stderr
    assert "site/c.txt holds sound, but is not named like a sound file" in result.stderr
    left_out = pd.read_csv(tmp_path / "scores.left_out.csv", keep_default_na=False)
    assert left_out["recording_id"].to_list() == ["empty", ""] and set(left_out["used"]) == {"no"}
    assert all(line in result.stderr for line in left_out["why"])
    assert "probabilities by" in result.stdout and "its thresholds (a test)" in result.stdout

    scores = pd.read_csv(out)
    assert scores["recording_id"].to_list() == ["A_20240501_060000", "b"]
    table = pd.read_parquet(windows)
    sides = [f"{c}_{side}" for c in COLUMNS for side in ("begin_s", "end_s", "low_hz", "high_hz")]
    of_recording = ["file", "duration_s", "start_time"]
    of_windows = ["recording_id", "start_s", "end_s", *COLUMNS, *sides]
    assert table.columns.to_list() == [*of_windows, *of_recording]
    highest = table.groupby("recording_id")[COLUMNS].max()
    models = kept_scorer(run.path)
    for number, name in enumerate(scores["recording_id"]):
        waveform, _ = soundfile.read(tiny_data / "train" / f"tiny0{number}.flac", dtype="float32")
        own = table[table["recording_id"] == name]
        expected = models.score_waveform(waveform[None])
        # Half a step of the logits' rounding.
        np.testing.assert_allclose(own[COLUMNS], expected["window_scores"][0], atol=0.002)
        np.testing.assert_allclose(own["start_s"], expected["window_start_s"], atol=1e-6)
        np.testing.assert_allclose(own["end_s"] - own["start_s"], 1.024)
    heard = pd.read_csv(events, dtype={"start_time": str}, keep_default_na=False)
    thresholds = dict(zip([2, 5, 9], calibration.thresholds, strict=True))
    for recording, rows in heard.groupby("recording_id"):
        reached = {
            s for s in thresholds if (probability(highest.loc[recording, f"s{s}"]) >= thresholds[s])
        }
        assert set(rows["species_id"]) == reached
    np.testing.assert_allclose(heard["probability"], probability(heard["score"]), atol=1e-4)
    assert heard["start_time"].iloc[0].startswith("2024-05-01T06:00:0")

    # The same events again, without the sound.
    again = tmp_path / "again.csv"
    options = ["--window-scores", windows, "--calibration", tmp_path / "calibration.yaml"]
    result = run_script("events", *options, "--out", again)
    assert result.returncode == 0, result.stderr
    anew = pd.read_csv(again, dtype={"start_time": str}, keep_default_na=False)
    texts = ["recording_id", "file", "species_id"]
    pd.testing.assert_frame_equal(anew[texts], heard[texts])
    # Boxes are kept to 10 ms and 10 Hz, scores are rounded: a window may leave or join a mean.
    moved_s = np.abs(anew[["start_s", "end_s"]] - heard[["start_s", "end_s"]]).to_numpy()
    assert np.median(moved_s) < 0.01 and moved_s.max() < 0.1
    np.testing.assert_allclose(anew[["low_hz", "high_hz"]], heard[["low_hz", "high_hz"]], atol=10)
    np.testing.assert_allclose(
        anew[["score", "probability"]], heard[["score", "probability"]], atol=0.002
    )

    # What could not be read is put right, and only that is done; then nothing is kept.
    parts = Path(f"{out}.parts")
    kept = {path: path.stat().st_mtime_ns for path in parts.glob("*.npz")}
    assert len(kept) == 2
    shutil.copy(tiny_data / "train" / "tiny02.flac", audio / "site" / "empty.wav")
    (audio / "site" / "c.txt").unlink()
    result = run_script("predict", *arguments)
    assert result.returncode == 0
    assert "2/3 recordings" in result.stderr
    assert pd.read_csv(out)["recording_id"].to_list() == ["A_20240501_060000", "b", "empty"]
    assert not parts.exists()


def probability(score):
    """The map of the calibration above: half the logit."""
    odds = np.sqrt(score / (1 - score))
    return odds / (1 + odds)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--threshold", "0.5"], "--threshold is for events"),
        (["--format", "raven"], "--format is for events"),
        (["--events", "e.csv", "--threshold", "1.5"], "at most 1. Received: 1.5"),
        (["--events", "e.csv", "--format", "csv", "kaleidoscope"], "need a folder"),
        (["--events", "scores.csv"], "different places"),
        (["--events", "e.txt", "--format", "audacity"], "a file of them is for one"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(
    arguments, reason, run, tiny_data, tmp_path, monkeypatch, run_script
):
    monkeypatch.chdir(tmp_path)
    common = ["--run", run.path, "--audio", tiny_data / "train", "--out", "scores.csv"]
    result = run_script("predict", *common, *arguments)
    assert result.returncode == 2 and reason in result.stderr
    assert not list(tmp_path.iterdir())


def test_script_checks_the_sample_submission_before_the_work(run, tiny_data, tmp_path, run_script):
    sample = tmp_path / "sample_submission.csv"
    sample.write_text("recording_id,s2,s5,s9\ntiny00,0,0,0\nnot_there,0,0,0\n")
    result = run_script(
        *("predict", "--run", run.path, "--audio", tiny_data / "train", "--like", sample),
        *("--out", tmp_path / "scores.csv"),
    )
    assert result.returncode == 2
    assert "not_there" in result.stderr
    assert "predict:" not in result.stderr
    assert not (tmp_path / "scores.csv").exists()


@pytest.mark.parametrize("wrong", ["run", "audio"])
def test_bad_input_is_refused_in_one_line_with_status_2(
    wrong, run, tiny_data, tmp_path, run_script
):
    paths = {"run": run.path, "audio": tiny_data / "train", wrong: tmp_path / "none"}
    result = run_script(
        *(
            "predict",
            "--run",
            paths["run"],
            "--audio",
            paths["audio"],
            "--out",
            tmp_path / "scores.csv",
        )
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert str(tmp_path / "none") in line
    assert not (tmp_path / "scores.csv").exists()


def test_a_channel_that_is_chosen_is_scored_and_its_results_are_of_it_alone(
    run, tiny_data, tmp_path
):
    sound = soundfile.read(tiny_data / "train" / "tiny00.flac")[0]
    other = soundfile.read(tiny_data / "train" / "tiny01.flac")[0]
    for name, channels in (("both", [sound, other]), ("sound", [sound]), ("other", [other])):
        soundfile.write(tmp_path / f"{name}.wav", np.stack(channels, 1), 8000, subtype="FLOAT")
    models, journal = kept_scorer(run.path), Journal(tmp_path / "parts", "a")
    both = tmp_path / "both.wav"
    for channel, alone in (("0", "sound"), ("1", "other")):
        source = {"r": AudioSource(both, channel=channel)}
        found = predict_recordings(models, source, journal=journal).scores
        expected = predict_recordings(models, {"r": tmp_path / f"{alone}.wav"}).scores
        pd.testing.assert_frame_equal(found, expected)


def test_runs_are_of_the_channel_of_their_recipe(run, tiny_config, tiny_shards, tmp_path):
    old = yaml.safe_load((run.path / "config.yaml").read_text())
    del old["audio"]  # As runs had it before there was a choice.
    shutil.copytree(run.path, tmp_path / "old")
    (tmp_path / "old" / "config.yaml").write_text(yaml.safe_dump(old))
    config = tiny_config.model_copy(update={"audio": AudioConfig(channel="1")})
    random_run(tmp_path / "one", config, read_manifest(tiny_shards))
    opened = {name: open_run(tmp_path / name) for name in ("old", "one")}
    assert channel_of([opened["old"]]) == channel_of([opened["old"], run]) == "mean"
    assert channel_of([opened["one"]]) == "1"
    assert "--channel" in refused(channel_of, list(opened.values()))
