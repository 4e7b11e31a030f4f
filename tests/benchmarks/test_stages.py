"""What the stages measure: that the alternatives do the same work, and the sums behind figures."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.frontend import frontend_tasks
from benchmarks.material import open_material
from benchmarks.measure import timed
from benchmarks.peers import librosa_spectrogram, write_numpy_crops
from benchmarks.pipeline import read_at_random, without_augmentation
from benchmarks.predict import cut_windows
from benchmarks.quantised import levels_of, through_float16, through_uint8
from benchmarks.report import read_figures
from benchmarks.scale import Job, Rates, project, read_rates, simulate_index
from rfcx_tf.audio.decode import read_audio
from rfcx_tf.core.config import Config, load_config
from rfcx_tf.core.errors import UserError
from rfcx_tf.labels.annotations import read_kaggle_folder
from rfcx_tf.shards.records import ShardReader, parse_crop

ROOT = Path(__file__).resolve().parents[2]


def test_material_is_part_of_a_folder_and_can_be_multiplied(tiny_data):
    with open_material(tiny_data, 4, 0, 8000) as material:
        annotations = read_kaggle_folder(material.folder)
        assert list(annotations.recordings) == [f"tiny{k:02d}" for k in range(4)]
        assert len(annotations.used_rows) == 16
        three_times = read_kaggle_folder(material.copies(3))
        assert len(three_times.recordings) == 12
        assert len(three_times.used_rows) == 48
        folder = material.folder
    assert not folder.exists()
    with (
        pytest.raises(UserError, match=r"Found 10\. Lower --recordings"),
        open_material(tiny_data, 11, 0, 8000),
    ):
        pass


def test_numpy_crops_hold_what_the_shards_hold(tiny_data, tiny_config, tiny_shards, tmp_path):
    annotations = read_kaggle_folder(tiny_data)
    recordings = {name: source.path for name, source in annotations.recordings.items()}
    rows = annotations.used_rows.sort_values(["recording_id", "t_min"], kind="stable")
    assert write_numpy_crops(recordings, rows, tiny_config, tmp_path) == 40
    reader = ShardReader(tiny_shards)
    stored = reader.index.sort_values(["recording_id", "t_min"], kind="stable").index
    for number in (0, 7, 39):
        own = parse_crop(reader[stored[number]])["spectrogram"].numpy()
        other = np.load(tmp_path / f"{number:06d}.npy")
        np.testing.assert_allclose(own, other, rtol=2e-3, atol=2e-3)


def test_librosa_refuses_what_it_is_not_set_up_for(tiny_config):
    frontend = tiny_config.frontend.model_copy(update={"compression": "pcen_log"})
    with pytest.raises(UserError, match="pcen or log"):
        librosa_spectrogram(np.zeros(800, np.float32), frontend)


def test_librosa_gives_our_log_mel(tiny_data, tiny_config):
    from rfcx_tf.frontend.recording import RecordingTransform

    frontend = tiny_config.frontend.model_copy(update={"compression": "log"})
    config = tiny_config.model_copy(update={"frontend": frontend})
    waveform = read_audio(tiny_data / "train" / "tiny00.flac", 8000)
    own = RecordingTransform(config)(waveform)
    np.testing.assert_allclose(own, librosa_spectrogram(waveform, frontend), rtol=1e-3, atol=1e-2)


def test_without_augmentation_no_crop_is_varied():
    left = without_augmentation(Config()).augment.model_dump()
    probabilities = [v for k, v in left.items() if k not in ("mixup_alpha", "time_mask_s")]
    numbers = [v for v in probabilities if isinstance(v, int | float) and not isinstance(v, bool)]
    # The width of a stripe counts for nothing without stripes.
    assert sum(numbers) == left["frequency_mask_bands"]


def test_cold_and_cached_reading_read_the_same_crops(tiny_shards):
    index = ShardReader(tiny_shards).index
    for cold in (False, True):
        assert read_at_random(tiny_shards, index, cold).seconds > 0


def test_quantised_values_are_within_half_a_step():
    values = np.random.default_rng(0).gamma(2.0, 0.5, (100, 8)).astype(np.float32)
    levels, low, step = levels_of(values)
    assert levels.dtype == np.uint8
    assert (low, step) == (values.min(), pytest.approx(np.ptp(values) / 255))
    for begin in range(0, 100, 30):
        piece = values[begin : begin + 30]
        back = through_uint8(values, 30)[begin : begin + 30]
        assert np.abs(back - piece).max() <= 0.5001 * np.ptp(piece) / 255
    np.testing.assert_allclose(through_float16(values), values, rtol=2**-11, atol=1e-7)
    assert (through_uint8(np.full((4, 2), 3.0, np.float32), 4) == 3.0).all()


def test_windows_are_cut_a_stride_apart_with_zeros_behind_the_end():
    spectrogram = np.arange(1.0, 11.0)[:, None]
    windows = cut_windows(spectrogram, 4, 3, 4)[..., 0]
    assert windows.tolist() == [[1, 2, 3, 4], [4, 5, 6, 7], [7, 8, 9, 10], [10, 0, 0, 0]]


def test_projection_of_a_job_by_hand(tmp_path):
    config = Config()
    config = config.model_copy(
        update={
            "training": config.training.model_copy(
                update={"folds": 2, "epochs": 3, "steps_per_epoch": 10, "batch_size": 6}
            ),
            "crops": config.crops.model_copy(update={"recordings_per_shard": 10}),
        }
    )
    rates = Rates(0.5, 0.1, 0.1, 2**20, 2**30)
    found = project(Job("a", 4727, 60, 4787), rates, config)
    assert found["prepare_core_hours"] == pytest.approx(4727 / 60 / 0.5 / 3600)
    assert found["train_hours"] == pytest.approx(1.0)
    assert found["predict_core_hours"] == pytest.approx(1 / 0.1 / 3600)
    assert found["audio_gib"] == pytest.approx(4787 / 60)
    assert found["crops"] == pytest.approx(1216 + 7781)
    assert found["shards_gib"] == pytest.approx((1216 + 7781) / 1024)
    assert found["shards"] == pytest.approx(472.7)
    with pytest.raises(UserError, match=r"run benchmark\.py shards"):
        read_rates(tmp_path)


def test_a_made_up_index_opens_and_grows_with_its_crops():
    small, large = simulate_index(200), simulate_index(2000)
    assert large["manifest"] > 9 * small["manifest"] > 0
    assert large["bytes"] > small["bytes"]


def test_front_end_tasks_run_and_agree_with_librosa(tiny_data, tiny_config):
    paths = sorted((tiny_data / "train").iterdir())[:2]
    tasks = frontend_tasks(tiny_config, paths)
    median, largest = tasks.pop("difference")()
    assert median < 1e-5
    assert largest < 1e-2
    assert sorted(tasks) == ["decoding", "frontend", "librosa", "soundfile"]
    assert all(timed(task).value is None for task in tasks.values())


def test_projection_from_the_command_line(tmp_path):
    figures = {
        "shards": {"shards_hours_per_s": 0.05, "crop_bytes": 1000, "audio_bytes_per_hour": 2e8},
        "predict": {"flac_to_scores_sound_s_per_s": 36.0},
        "train": {"float32_examples_per_s": 5.0, "bfloat16_examples_per_s": 10.0},
    }
    for name, values in figures.items():
        rows = [{"key": key, "value": {"median": value}} for key, value in values.items()]
        (tmp_path / f"{name}.json").write_text(json.dumps({"rows": rows}))
    result = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "benchmark.py", "scale", "--out", tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    markdown, table = tmp_path / "scale.md", tmp_path / "scale.json"
    assert result.stdout.splitlines()[-1] == f"Wrote {markdown} and {table}."
    found = read_figures("scale", tmp_path)
    assert found["competition_prepare_core_hours"] == pytest.approx(4727 / 60 / 0.05 / 3600)
    # The faster of the two trainings.
    training = load_config(ROOT / "configs" / "rfcx.yaml").training
    examples = 5 * training.epochs * training.steps_per_epoch * training.batch_size
    assert found["competition_train_hours"] == pytest.approx(examples / 10 / 3600)
    assert found["million_hours_predict_core_hours"] == pytest.approx(1e6 / 36)
    assert "65530 memory mappings" in markdown.read_text()


def test_bad_numbers_are_refused_in_one_line(tmp_path):
    script = ROOT / "benchmarks" / "benchmark.py"
    for wrong, text in ((("--repeats", "0"), "--repeats must"), (("--truth", "x"), "Add --run")):
        result = subprocess.run(
            [sys.executable, script, "scale", "--out", tmp_path, *wrong],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert result.returncode == 2
        assert text in result.stderr
        assert len(result.stderr.splitlines()) == 1
