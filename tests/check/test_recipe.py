"""Proposed recipes: that they are ones, what decides them, and that they say why."""

from dataclasses import replace

import librosa
import pandas as pd
import pytest
import yaml

from rfcx_tf.check.facts import SPECIES_COLUMNS, Facts, read_data_folder
from rfcx_tf.check.recipe import propose_recipe, recipe_text
from rfcx_tf.check.speed import Machine, examples_per_s, fold_minutes
from rfcx_tf.core.config import Config, differences, load_config
from rfcx_tf.core.errors import UserError

CPU = Machine(has_gpu=False, cores=2, has_amx=True)
GPU = Machine(has_gpu=True, cores=16, has_amx=False)


def made_facts(calls, rate_hz=48_000, rows=40, recordings=12, duration_s=60.0) -> Facts:
    """Facts of species with calls of (length in s, lowest, highest Hz); FP rows as TP rows."""
    lines, species = [], []
    for number, (length_s, low_hz, high_hz) in enumerate(calls):
        for row in range(rows):
            place = {"recording_id": f"r{row % recordings}", "species_id": number}
            box = {"t_min": 1.0, "t_max": 1.0 + length_s, "f_min": low_hz, "f_max": high_hz}
            for present in (True, False):
                lines.append(place | {"songtype_id": 1, "present": present, "source": ""} | box)
        values = (number, f"s{number}", rows, rows, recordings, *[length_s] * 4, low_hz, high_hz)
        species.append(dict(zip(SPECIES_COLUMNS, values, strict=True)))
    names = [f"r{number}" for number in range(recordings)]
    sounds = pd.DataFrame(
        {"recording_id": names, "rate_hz": rate_hz, "channels": 1, "duration_s": duration_s}
    )
    found = dict.fromkeys(names)
    return Facts(pd.DataFrame(lines), [], pd.DataFrame(species), found, sounds, [], [], (), [], [])


WHISTLES = [(0.8, 2000, 2600), (1.5, 3000, 3500), (2.0, 900, 1200)]
ENGINES = [(2.0, 50, 6000), (3.0, 60, 9000), (1.8, 100, 4000)]
BATS = [(0.005, 40_000, 55_000), (0.008, 20_000, 30_000)]
HOOTS = [(0.3, 200, 400), (0.5, 100, 300)]


@pytest.mark.parametrize("machine", [CPU, GPU])
@pytest.mark.parametrize(
    ("calls", "rate_hz"),
    [
        *((WHISTLES, rate) for rate in (16_000, 22_050, 32_000, 44_100, 48_000, 96_000)),
        *((ENGINES, rate) for rate in (24_000, 44_100, 48_000)),
        (BATS, 192_000),
        (BATS, 384_000),
        *((HOOTS, rate) for rate in (8_000, 48_000, 250_000)),
    ],
)
def test_proposals_are_recipes_without_empty_bands_that_hold_the_calls(calls, rate_hz, machine):
    proposal = propose_recipe(made_facts(calls, rate_hz), machine)
    front = proposal.config.frontend
    filters = librosa.filters.mel(
        sr=front.sample_rate_hz,
        n_fft=front.n_fft,
        n_mels=front.n_mels,
        fmin=front.f_min_hz,
        fmax=front.f_max_hz,
    )
    assert (filters.max(axis=1) > 0).all()
    assert rate_hz % front.sample_rate_hz == 0
    top_hz = front.f_max_hz or front.sample_rate_hz / 2
    assert front.f_min_hz < min(low for _, low, _ in calls)
    assert top_hz > max(high for *_, high in calls)
    assert proposal.config.crops.crop_s > max(length for length, *_ in calls)
    # Not more frames than a call needs, nor fewer than show its shape.
    assert front.frame_s <= min(length for length, *_ in calls) / 5


def test_a_recipe_is_written_with_a_reason_before_every_value_and_without_defaults(tmp_path):
    proposal = propose_recipe(made_facts(ENGINES), CPU)
    text = recipe_text(proposal, "rfcx-tf check DIR")
    path = tmp_path / "my.yaml"
    path.write_text(text)
    assert load_config(path) == proposal.config
    default = Config().model_dump()
    changed = {key for key, *_ in differences(default, proposal.config.model_dump())}
    assert changed == {choice.key for choice in proposal.choices}
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    # A value has a comment right above it, or shares that of the value above it.
    values = [
        i for i, line in enumerate(lines) if ": " in line and not line.lstrip().startswith("#")
    ]
    assert len(values) == len(proposal.choices)
    for i in values:
        assert "#" in lines[i - 1] or i - 1 in values


def test_what_calls_are_like_decides():
    narrow, broad = (propose_recipe(made_facts(c), CPU).config for c in (WHISTLES, ENGINES))
    assert (narrow.frontend.compression, broad.frontend.compression) == ("pcen", "log")
    assert (narrow.augment.mixup_domain, broad.augment.mixup_domain) == ("spectrogram", "power")
    # A call and its mirror image have one box.
    alike = [(0.8, 2000, 2600), (0.8, 2010, 2590), (2.0, 900, 1200)]
    assert propose_recipe(made_facts(alike), CPU).config.augment.fp_flip == 0
    assert narrow.augment.fp_flip == Config().augment.fp_flip
    mixed = [(0.6, 2000, 2600), (7.0, 3000, 3500), (6.0, 900, 1200)]
    kinds = [propose_recipe(made_facts(c), GPU).config.model.head.kind for c in (mixed, WHISTLES)]
    assert kinds == ["per_class", "shared"]
    # Clips that are no longer than a call are not filled up with silence.
    short = propose_recipe(made_facts(ENGINES, duration_s=3.0), CPU).config
    assert short.crops.crop_s <= 3.0 < broad.crops.crop_s


def test_rows_and_machine_decide_the_network_and_folds():
    few, many = made_facts(WHISTLES, rows=20), made_facts(WHISTLES, rows=400)
    names = [
        propose_recipe(facts, machine).config.model.backbone.name
        for facts in (few, many)
        for machine in (CPU, GPU)
    ]
    assert names == ["resnet10", "resnet18", "resnet18", "resnet34"]
    rare = made_facts(WHISTLES)
    rare = replace(rare, species=rare.species.assign(recordings=3))
    folds = [propose_recipe(facts, CPU).config.training.folds for facts in (few, rare)]
    assert folds == [5, 3]
    with pytest.raises(UserError, match=r"two recordings or more.*All are in r0\."):
        propose_recipe(made_facts(WHISTLES, recordings=1), CPU)


def test_the_listed_time_is_that_of_the_examples_and_can_be_limited():
    facts = made_facts(ENGINES)
    whole, limited = (propose_recipe(facts, CPU, minutes) for minutes in (None, 10.0))
    training = whole.config.training
    examples = training.epochs * training.steps_per_epoch * training.batch_size
    seconds = examples / examples_per_s(whole.config, CPU)
    assert fold_minutes(whole.config, CPU) == pytest.approx(1.15 * seconds / 60)
    all_folds = fold_minutes(limited.config, CPU) * limited.config.training.folds
    assert 8.0 < all_folds < 11.0 < fold_minutes(whole.config, CPU) * training.folds
    assert "10 minutes" in recipe_text(limited, "")
    # 330 examples a second were measured of configs/fieldmix.yaml on such a machine.
    assert examples_per_s(load_config("configs/fieldmix.yaml"), CPU) == pytest.approx(330)
    # 46.9 ms a crop of a full ResNet18, 81.0 of a ResNet34 (docs/performance.md): to a factor of 2.
    for name, ms in {"resnet18": 46.9, "resnet34": 81.0}.items():
        full = Config(crops={"crop_s": 2.5}, model={"backbone": {"name": name}})
        assert 0.5 < examples_per_s(full, CPU) * ms / 1000 < 2


def test_published_weights_bring_their_front_end_and_a_short_schedule():
    measured = load_config("configs/yamnet.yaml", ["model.backbone.weights=yamnet.h5"])
    facts = made_facts(ENGINES, 24_000, rows=217)
    proposal = propose_recipe(facts, CPU, start=measured)
    config = proposal.config
    assert config.frontend == measured.frontend
    assert config.model == measured.model
    assert config.augment == measured.augment
    training = config.training
    # As many examples for a row as was measured: 40,320 for 651.
    examples = training.epochs * training.steps_per_epoch * training.batch_size
    assert training.epochs == measured.training.epochs
    assert examples == pytest.approx(40_320, rel=0.05)
    # 13 minutes a fold of 40,320 examples were measured on two cores without AMX.
    assert fold_minutes(measured, replace(CPU, has_amx=False)) == pytest.approx(13, rel=0.05)
    assert not any("yamnet.h5" in remark for remark in proposal.remarks)


@pytest.mark.parametrize(
    ("calls", "rate_hz", "why"),
    [
        (WHISTLES, 8000, "at 16000 Hz or more. Most have 8000"),
        (WHISTLES + BATS, 192_000, "up to 7500 Hz. Above that calls s3, s4"),
    ],
)
def test_yamnet_is_proposed_where_it_hears_the_calls(calls, rate_hz, why):
    start = load_config("configs/yamnet.yaml", ["model.backbone.weights=yamnet.h5"])
    with pytest.raises(UserError, match=why):
        propose_recipe(made_facts(calls, rate_hz), CPU, start=start)

    def is_named(calls, rate_hz):
        remarks = propose_recipe(made_facts(calls, rate_hz), CPU).remarks
        return any("--weights yamnet.h5" in remark for remark in remarks)

    assert not is_named(calls, rate_hz)
    assert is_named(WHISTLES, 16_000)


def test_real_recordings_get_the_recipe_that_was_found_for_them(real_data):
    """Proposed from boxes and headers alone; what is left out concerns pseudo-labels."""
    facts = read_data_folder(real_data / "fieldmix", progress=False)
    proposed = propose_recipe(facts, CPU).config.model_dump()
    found = load_config("configs/fieldmix.yaml").model_dump()
    changed = {k: v for k, *v in differences(found, proposed) if not k.startswith("pseudo")}
    assert changed == {"crops.crop_s": [2.73, 2.731]}
    front = propose_recipe(read_data_folder(real_data / "rfcx-sample", progress=False), GPU).config
    by_hand = load_config("configs/rfcx.yaml")
    assert front.frontend == by_hand.frontend.model_copy(update={"f_min_hz": 80.0})
    assert front.model == by_hand.model
    assert yaml.safe_load(recipe_text(propose_recipe(facts, CPU), "x"))["frontend"]["n_mels"] == 64
