"""Every stage on tiny recordings, that the alternatives do the same work, and sums by hand."""

import importlib
import json
import sys

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import speed
from benchmarks.options import Options
from benchmarks.recordings import open_recordings, repeat_recordings
from benchmarks.report import read_medians
from benchmarks.stages import scale
from benchmarks.stages.librosa_crops import librosa_spectrogram, write_numpy_crops
from benchmarks.stages.pipeline import without_augmentation
from benchmarks.stages.predict import cut_windows
from benchmarks.timing import Timing
from rfcx_tf.audio.decode import read_audio
from rfcx_tf.core.config import Config
from rfcx_tf.core.config.library_networks import LIBRARY_NETWORKS
from rfcx_tf.core.errors import UserError
from rfcx_tf.frontend.recording import RecordingTransform
from rfcx_tf.labels.annotations import read_kaggle_folder
from rfcx_tf.shards.records import ShardReader, parse_crop


@pytest.fixture
def run_stage(monkeypatch, run_tasks_here, tiny_recipe, tiny_data, tmp_path):
    """A function that runs a stage on tiny recordings and returns its medians by key."""

    def run(name, *more):
        stage = importlib.import_module(f"benchmarks.stages.{name}")
        if hasattr(stage, "Worker"):
            run_tasks_here(stage)
        options = ["--config", tiny_recipe, "--slim", tiny_recipe, "--data", tiny_data]
        options += ["--recordings", 4, "--repeats", 1, "--steps", 1, "--batch-size", 4]
        options += ["--cores", 1, "--out", tmp_path, *more]
        monkeypatch.setattr(sys, "argv", ["speed.py", name, *map(str, options)])
        speed.main()
        assert (tmp_path / f"{name}.md").read_text().count("\n| ") > 4
        return read_medians(name, tmp_path)

    return run


def test_frontend_writes_its_report(run_stage):
    assert run_stage("frontend").keys() == {"libsndfile", "read_audio", "librosa", "our layer"}


def test_shards_writes_its_report(run_stage, monkeypatch):
    # TensorFlow takes its threads only before it starts.
    monkeypatch.setattr("rfcx_tf.frontend.recording.use_one_thread_an_operation", lambda: None)
    found = run_stage("shards")
    # Four rows in a recording of 6 s.
    assert found["crops_per_hour"] == pytest.approx(4 / 6 * 3600)
    assert found["memory_32"] == 1024


def test_decoding_writes_its_report(run_stage, monkeypatch):
    pytest.importorskip("tensorflow_io", reason="tensorflow-io loads with TensorFlow 2.16 and 2.17")
    monkeypatch.setattr("rfcx_tf.frontend.recording.use_one_thread_an_operation", lambda: None)
    assert len(run_stage("decoding")) == 2 * (4 * 2 + 1)


def test_pipeline_writes_its_report(run_stage):
    found = run_stage("pipeline")
    assert found["float16"] == 2 * found["uint8"] == 2 * 128 * 32
    assert found["cores_wanted"] == pytest.approx(3000 / found["augmented"])


@pytest.fixture
def untraced():
    """Tracing a training step takes much longer than a few steps of a tiny network."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def test_train_writes_its_report(run_stage, monkeypatch, untraced):
    # Devices cannot be divided once TensorFlow has started.
    one_device = tf.distribute.MirroredStrategy(["/cpu:0"])
    monkeypatch.setattr("rfcx_tf.training.devices.open_strategy", lambda config: one_device)
    assert len(run_stage("train")) == 3


def test_predict_writes_its_report(run_stage, untrained_run, untraced):
    found = run_stage("predict", "--run", untrained_run.path)
    assert found["FLAC to scores, windows"] > 0


def test_backbones_writes_its_report(run_stage, monkeypatch):
    monkeypatch.setattr("benchmarks.stages.backbones.NAMES", ("resnet10",))
    # Training steps are shown above.
    steps = {"steps": lambda: Timing(1.0, 1.0)}
    monkeypatch.setattr("benchmarks.stages.backbones.keras_tasks", lambda *_: steps)
    assert run_stage("backbones")["resnet10: training step, bfloat16"] == 250


def test_libraries_writes_its_report(run_stage, monkeypatch):
    pytest.importorskip("keras_cv", reason="keras_cv is not in this set of packages")
    networks = {n: LIBRARY_NETWORKS["keras_cv"][n] for n in ("resnet18", "yolo_v8_xs_backbone")}
    monkeypatch.setitem(LIBRARY_NETWORKS, "keras_cv", networks)
    monkeypatch.setattr("benchmarks.stages.libraries._LENGTHS_S", (1, 2))
    monkeypatch.setattr("benchmarks.stages.libraries._REFERENCE", "resnet10")
    assert {"resnet10", "keras_cv:resnet18"} < set(run_stage("libraries"))


def test_scale_projects_what_others_measured_by_hand(run_stage, tmp_path, tiny_config):
    with pytest.raises(UserError, match=r"run speed\.py shards"):
        run_stage("scale")
    figures = {
        "shards": {"one core": 0.5, "crop_bytes": 2**20, "audio_bytes_per_hour": 2**30},
        "predict": {"FLAC to scores": 36.0},
        "train": {"Keras, float32": 5.0, "Keras, mixed bfloat16": 10.0},
    }
    for name, values in figures.items():
        rows = [{"key": key, "median": value} for key, value in values.items()]
        (tmp_path / f"{name}.json").write_text(json.dumps({"rows": rows}))
    found = run_stage("scale")
    assert found["competition: preparing"] == pytest.approx(4727 / 60 / 0.5 / 3600)
    # 2 folds x 2 epochs x 3 steps x 8 examples, by the faster of the two trainings.
    assert found["competition: training all folds"] == pytest.approx(96 / 10 / 3600)
    assert found["million hours: predicting, one network"] == pytest.approx(1e6 / 36)
    assert found["competition: sound files"] == pytest.approx((4727 + 1992) / 60)
    assert found["competition: crops"] == pytest.approx(1216 + 7781)
    assert found["competition: shards"] == pytest.approx((1216 + 7781) / 1024)
    assert found["competition: shard files"] == pytest.approx(4727 / 2)
    assert "65530 memory mappings" in (tmp_path / "scale.md").read_text()
    del figures["predict"]["FLAC to scores"]
    with pytest.raises(UserError, match="needs the rate 'FLAC to scores'"):
        scale.project((1, 1, 1), figures["shards"] | figures["train"], tiny_config)


def test_bad_numbers_are_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["speed.py", "scale", "--repeats", "0"])
    with pytest.raises(UserError, match=r"--repeats: must be a whole number above 0\. Received: 0"):
        speed.main()


def options_for(config, data):
    return Options(config, config, data, None, None, 4, 10.0, 1, 4, 1, 1)


def test_recordings_are_part_of_a_folder_and_can_be_repeated(tiny_data, tiny_config):
    with open_recordings(options_for(tiny_config, tiny_data), 4) as recordings:
        assert list(recordings.paths) == [f"tiny{k:02d}" for k in range(4)]
        assert len(recordings.annotations.used_rows) == 16
        assert recordings.hours == pytest.approx(4 * 6 / 3600)
        three_times = repeat_recordings(recordings.annotations, 3)
    assert len(three_times.recordings) == 12
    assert len(three_times.used_rows) == 48
    with (
        pytest.raises(UserError, match=r"Found 10\. Lower --recordings"),
        open_recordings(options_for(tiny_config, tiny_data), 11),
    ):
        pass


def test_synthetic_recordings_have_a_row_of_each_kind_and_go():
    with open_recordings(options_for(Config(), None), 2) as recordings:
        present = recordings.annotations.used_rows["present"]
        assert sorted(present) == [False, False, True, True]
    assert not recordings.data_dir.exists()


def test_numpy_crops_hold_what_the_shards_hold(tiny_data, tiny_config, tiny_shards, tmp_path):
    annotations = read_kaggle_folder(tiny_data)
    write_numpy_crops(annotations, tiny_config, tmp_path)
    assert len(list(tmp_path.iterdir())) == 40
    reader = ShardReader(tiny_shards)
    rows = annotations.used_rows.sort_values("recording_id", kind="stable")
    for number in (0, 7, 39):
        row = rows.iloc[number]
        same = (reader.index["recording_id"] == row.recording_id) & np.isclose(
            reader.index["t_min"], row.t_min
        )
        own = parse_crop(reader[np.flatnonzero(same)[0]])["spectrogram"].numpy()
        other = np.load(tmp_path / f"{number:06d}.npy")
        np.testing.assert_allclose(own, other, rtol=2e-3, atol=2e-3)


def test_librosa_gives_our_spectrograms(tiny_data, tiny_config):
    waveform = read_audio(tiny_data / "train" / "tiny00.flac", 8000)
    for compression, tolerance in (("log", 1e-2), ("pcen", 1e-5)):
        frontend = tiny_config.frontend.model_copy(update={"compression": compression})
        config = tiny_config.model_copy(update={"frontend": frontend})
        own = RecordingTransform(config)(waveform)
        other = librosa_spectrogram(waveform, frontend)
        np.testing.assert_allclose(own, other, rtol=1e-3, atol=tolerance)
    frontend = tiny_config.frontend.model_copy(update={"compression": "pcen_log"})
    with pytest.raises(UserError, match="pcen or log"):
        librosa_spectrogram(waveform, frontend)


def test_without_augmentation_no_crop_is_varied():
    left = without_augmentation(Config()).augment.model_dump()
    probabilities = [v for k, v in left.items() if k not in ("mixup_alpha", "time_mask_s")]
    numbers = [v for v in probabilities if isinstance(v, int | float) and not isinstance(v, bool)]
    # The width of a stripe counts for nothing without stripes.
    assert sum(numbers) == left["frequency_mask_bands"]


def test_windows_are_cut_a_stride_apart_with_zeros_behind_the_end():
    spectrogram = np.arange(1.0, 11.0)[:, None]
    windows = cut_windows(spectrogram, 4, 3, 4)[..., 0]
    assert windows.tolist() == [[1, 2, 3, 4], [4, 5, 6, 7], [7, 8, 9, 10], [10, 0, 0, 0]]


def test_an_index_in_memory_grows_with_its_crops():
    (few_memory, few_manifest), (many_memory, many_manifest) = map(scale.index_bytes, (200, 2000))
    assert many_manifest > 9 * few_manifest > 0
    assert many_memory > few_memory
