"""Recipes: what is read, what is refused and in which words."""

from pathlib import Path

import pytest
import yaml

from rfcx_tf.core.config import Config, ConfigError, FrontEndConfig, load_config, save_config

ROOT = Path(__file__).resolve().parents[2]

WEIGHTS = "model.backbone.weights=imagenet"
# Every rule that involves two values: the key that the message names, and overrides
# of the defaults that break the rule, and that just keep it.
CROSS_FIELD_RULES = [
    ("frontend.win_length", ["frontend.win_length=2049"], ["frontend.win_length=2048"]),
    (
        "frontend.hop_length",
        ["frontend.win_length=500"],
        ["frontend.win_length=500", "frontend.hop_length=500"],
    ),
    ("frontend.f_max_hz", ["frontend.f_max_hz=24001"], ["frontend.f_max_hz=24000"]),
    ("frontend.f_min_hz", ["frontend.f_min_hz=24000"], ["frontend.f_min_hz=23999"]),
    (
        "frontend.f_min_hz",
        ["frontend.f_min_hz=100", "frontend.f_max_hz=100"],
        ["frontend.f_min_hz=100", "frontend.f_max_hz=101"],
    ),
    (
        "model.backbone.stage_strides",
        ["model.backbone.stage_strides=[1,2,2]"],
        ["model.backbone.stage_strides=[1,2,[2,1],2]"],
    ),
    (
        "model.backbone.stem_kernel",
        ["model.backbone.stem_kernel=6"],
        ["model.backbone.stem_kernel=5"],
    ),
    ("model.backbone.weights", [WEIGHTS, "model.backbone.name=resnet10"], [WEIGHTS]),
    ("model.backbone.width", [WEIGHTS, "model.backbone.width=32"], ["model.backbone.width=32"]),
    (
        "model.backbone.stem_kernel",
        [WEIGHTS, "model.backbone.stem_kernel=3"],
        ["model.backbone.stem_kernel=3"],
    ),
    (
        "model.backbone.stage_strides",
        [WEIGHTS, "model.backbone.stage_strides=[2,2,2,1]"],
        [
            WEIGHTS,
            "model.backbone.name=resnet50",
            "model.backbone.stage_strides=[2,2,2,1]",
        ],
    ),
    ("frontend.n_mels", ["frontend.n_mels=31"], ["frontend.n_mels=32"]),
    (
        "frontend.n_mels",
        ["frontend.n_mels=63", "model.backbone.stem_pooling=true"],
        ["frontend.n_mels=64", "model.backbone.stem_pooling=true"],
    ),
    ("model.head.window_s", ["model.head.window_s=5.01"], ["model.head.window_s=5"]),
    ("model.head.window_s", ["model.head.window_s=0.001"], ["model.head.window_s=0.01"]),
    # 16 frames of 512 samples at 48 kHz last 0.171 s.
    ("crops.crop_s", ["crops.crop_s=0.16"], ["crops.crop_s=0.171"]),
    ("augment.tp_shift_s", ["augment.tp_shift_s=2.1"], ["augment.tp_shift_s=2"]),
    (
        "pseudo.absent_below",
        ["pseudo.absent_below=0.5"],
        ["pseudo.absent_below=0.49"],
    ),
    (
        "augment.frequency_mask_bands",
        ["augment.frequency_mask_bands=129"],
        ["augment.frequency_mask_bands=128"],
    ),
    (
        "training.batch_size",
        ["training.batch_size=7", "training.logical_cpus=2"],
        ["training.batch_size=8", "training.logical_cpus=2"],
    ),
    ("training.batch_size", ["training.accumulation_steps=3"], ["training.accumulation_steps=4"]),
    (
        "training.xla",
        ["training.xla=true", "training.logical_cpus=2"],
        ["training.xla=true", "training.logical_cpus=1"],
    ),
    # Twice as fast, 5 s of crop and 0.02 s of shift either way take 10.08 s.
    ("crops.margin_s", ["augment.stretch=1", "crops.margin_s=2.5"], ["augment.stretch=0.7"]),
    ("augment.band_shift", ["augment.band_shift=128"], ["augment.band_shift=127"]),
    (
        "augment.mixup_domain",
        ["augment.mixup_domain=power", "frontend.compression=pcen_log"],
        ["augment.mixup_domain=power", "frontend.compression=log"],
    ),
    (
        "training.monitor",
        ["training.schedule=plateau"],
        ["training.schedule=plateau", "training.monitor=val_lrap"],
    ),
    (
        "training.monitor",
        ["training.early_stopping_epochs=3"],
        ["training.early_stopping_epochs=3", "training.monitor=val_log_loss"],
    ),
]


@pytest.fixture
def empty(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("")
    return path


def written(folder, text):
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def refusal(path, overrides=()):
    with pytest.raises(ConfigError) as caught:
        load_config(path, list(overrides))
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_recipe_of_the_project_loads_and_says_what_it_says(path):
    config = load_config(path).model_dump()
    given = yaml.safe_load(path.read_text())

    def check(expected, found):
        for key, value in expected.items():
            if isinstance(value, dict):
                check(value, found[key])
            else:
                assert found[key] == (tuple(value) if isinstance(value, list) else value), key

    assert given
    check(given, config)


def test_an_empty_file_gives_the_defaults(empty):
    assert load_config(empty) == Config()


def test_the_defaults_are_the_published_front_end():
    # 10 s -> 938 frames when both borders count, 1 + 480000 // 512.
    assert Config().frontend.frames(10.0) == 938
    assert Config().model.backbone.stride == (16, 16)


@pytest.mark.parametrize(("key", "broken", "kept"), CROSS_FIELD_RULES)
def test_values_that_do_not_go_together_are_refused(empty, key, broken, kept):
    assert refusal(empty, broken).startswith(f"{empty}: {key} ")
    load_config(empty, kept)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("training.epoch=3", "training.epoch"),
        ("colour=red", "colour"),
        ("training.epochs=many", "training.epochs"),
        ("training.epochs=1.5", "training.epochs"),
        ("training.epochs=0", "training.epochs"),
        ("training.epochs=null", "training.epochs"),
        ("training=3", "training"),
        ("training.precision=float8", "training.precision"),
        ("training.learning_rate=nan", "training.learning_rate"),
        ("frontend.input_scale=.inf", "frontend.input_scale"),
        ("dataset.tp_fraction=1.01", "dataset.tp_fraction"),
        ("model.backbone.stage_strides=[1,0,2,2]", "model.backbone.stage_strides"),
        ("model.backbone.stem_stride=[1,2,3]", "model.backbone.stem_stride"),
        ("seed=-1", "seed"),
        # Seeds of TensorFlow's stateless operations are int32.
        ("seed=2147483648", "seed"),
        ("training.fold_seed=2147483648", "training.fold_seed"),
        ("training.epochs.more=3", "training.epochs"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_key(empty, override, key):
    assert key in refusal(empty, [override])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("trainin:\n  epochs: 3\n", "trainin is not a known key"),
        ("training:\n  epochs: many\n  batch_size: no\n", "training.epochs"),
        ("training:\n  epochs: many\n  batch_size: x\n", "1 more"),
        ("training:\n", "training"),
        ("- 1\n- 2\n", "must map keys to values"),
        ("a: [1\nb: 2\n", "not valid YAML"),
        ("just text\n" * 50, "must map keys to values"),
        ("a: " + "[" * 2000, "not valid YAML"),
        # Written out, this is 9^30 values.
        (
            "".join(f"a{n}: &a{n} [{f'*a{n - 1},' * 9 if n else ''}]\n" for n in range(30))
            + "seed: *a29",
            "aliases unfold",
        ),
        ("seed: &a [*a]", "an alias names what it is in"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_in_one_line(tmp_path, text, words):
    path = written(tmp_path, text)
    message = refusal(path)
    assert words in message
    assert str(path) in message


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    assert "none.yaml cannot be read" in refusal(tmp_path / "none.yaml")
    assert "cannot be read" in refusal(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not valid YAML" in refusal(tmp_path / "binary.yaml")


@pytest.mark.parametrize("override", ["training.epochs", "=3", "training.epochs=[1"])
def test_an_override_that_is_none_is_refused(empty, override):
    assert "--set" in refusal(empty, [override])


def test_overrides_change_single_values(tmp_path):
    path = written(
        tmp_path, "seed: 4\ntraining:\n  epochs: 7\n  batch_size: 6\nfrontend:\n  f_max_hz: 9000\n"
    )
    config = load_config(
        path,
        [
            "training.epochs=3",
            "training.learning_rate=1e-3",
            "frontend.f_max_hz=null",
            "model.backbone.stage_strides=[1, 2, [2, 1], 2]",
            "model.backbone.stem_pooling=true",
            "model.head.kind=per_class",
            "training.epochs=5",
        ],
    )
    assert (config.seed, config.training.batch_size) == (4, 6)
    assert config.training.epochs == 5, "the last of two overrides holds"
    assert config.training.learning_rate == 0.001
    assert config.frontend.f_max_hz is None
    assert config.model.backbone.stage_strides == (1, 2, (2, 1), 2)
    # Stem 2, pooling 2, stages 1 2 2 2 in time and 1 2 1 2 in frequency.
    assert config.model.backbone.stride == (32, 16)
    assert config.model.head.kind == "per_class"


def test_a_saved_recipe_is_the_same_recipe(tmp_path, tiny_config):
    unusual = load_config(
        written(tmp_path, "frontend: {f_max_hz: 9000}\n"),
        ["model.backbone.stem_stride=[2, 1]", "training.learning_rate=0.1", "seed=5"],
    )
    for config in (Config(), tiny_config, unusual):
        save_config(config, tmp_path / "saved.yaml")
        assert load_config(tmp_path / "saved.yaml") == config
    assert yaml.safe_load((tmp_path / "saved.yaml").read_text())["training"]["folds"] == 5


def test_a_recipe_cannot_be_changed_in_passing():
    with pytest.raises(ValueError, match="frozen"):
        Config().training.epochs = 1


def test_the_fingerprint_depends_on_every_value_of_the_front_end():
    changed = {
        "sample_rate_hz": 44100,
        "n_fft": 4096,
        "win_length": 2000,
        "hop_length": 256,
        "n_mels": 64,
        "f_min_hz": 1.0,
        "f_max_hz": 12000.0,
        "magnitude_power": 2,
        "mel_scale": "htk",
        "compression": "log",
        "log_offset": 1e-3,
        "input_scale": 1.0,
        "pcen.gain": 0.9,
        "pcen.initial": "first_frame",
        "pcen.bias": 1.0,
        "pcen.power": 0.4,
        "pcen.time_constant_s": 0.3,
        "pcen.eps": 1e-5,
    }
    fields = set(FrontEndConfig.model_fields) - {"pcen"}
    pcen_fields = {f"pcen.{name}" for name in type(FrontEndConfig().pcen).model_fields}
    assert changed.keys() == fields | pcen_fields, "a new value of the front end is not tried"
    prints = {FrontEndConfig().fingerprint}
    for key, value in changed.items():
        section, _, name = key.rpartition(".")
        values = {section: {name: value}} if section else {name: value}
        prints.add(FrontEndConfig(**values).fingerprint)
    assert len(prints) == 1 + len(changed)
    assert FrontEndConfig(n_mels=64).fingerprint == FrontEndConfig(n_mels=64).fingerprint


def test_lengths_in_frames_and_cells(tiny_config):
    assert (tiny_config.crop_frames, tiny_config.margin_frames) == (64, 32)
    # Four cells of 16 frames of 16 ms.
    assert tiny_config.window_cells == 4
    assert tiny_config.cell_s == pytest.approx(0.256)
    assert tiny_config.pseudo_slide_cells == 2  # 0.5 s


@pytest.mark.parametrize(("slide_s", "cells"), [(0.01, 1), (0.25, 1), (0.26, 2), (0.5, 3)])
def test_slides_are_whole_cells(empty, slide_s, cells):
    """One cell of 16 frames of 512 samples at 48 kHz lasts 0.1707 s."""
    assert load_config(empty, [f"pseudo.slide_s={slide_s}"]).pseudo_slide_cells == cells
