"""Augmentation: the label rules by hand, and what each operation may and may not change."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rfcx_tf.shards import augment

FRAMES, MELS, CHANNELS, CLASSES = 12, 5, 2, 4
quickly = settings(max_examples=20)


def make_example(seed=0, states="pau-"):
    """A random crop; states by class: p present, a absent, h partly heard, u and - unknown."""
    random = np.random.default_rng(seed)
    return {
        "spectrogram": tf.constant(random.normal(size=(FRAMES, MELS, CHANNELS)), tf.float32),
        "target": tf.constant([float(state == "p") for state in states]),
        "known": tf.constant([float(state in "pa") for state in states]),
        "partly": tf.constant([float(state == "h") for state in states]),
        "pseudo": tf.constant(0.0),
        "box_frames": tf.constant([3.25, 5.75]),
        "box_bands": tf.constant([0.5, 2.0 + seed]),
        "box_class": tf.constant(float(seed)),
        "other_box": tf.constant(augment.NO_BOX),
        "inside": tf.constant(random.integers(0, 2, (3, len(states))), tf.float32),
    }


def make_soft(targets):
    """A crop that models labelled; None is unknown."""
    return make_example() | {
        "target": tf.constant([t or 0.0 for t in targets]),
        "known": tf.constant([float(t is not None) for t in targets]),
        "pseudo": tf.constant(1.0),
    }


def state(target, known):
    """The one letter of a class; anything else than the three states fails."""
    return {(1.0, 1.0): "p", (0.0, 1.0): "a", (0.0, 0.0): "u"}[float(target), float(known)]


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_flip_reverses_sound_and_box_and_leaves_the_labels():
    example = make_example()
    flipped = augment.flip_time(example)
    np.testing.assert_array_equal(
        flipped["spectrogram"], example["spectrogram"].numpy()[::-1].copy()
    )
    assert flipped["box_frames"].numpy().tolist() == [12 - 5.75, 12 - 3.25]
    assert_same(augment.flip_time(flipped), example)
    assert_same(
        {n: flipped[n] for n in ("target", "known")}, {n: example[n] for n in ("target", "known")}
    )


@quickly
@given(st.integers(-14, 14), st.floats(-4, 12), st.floats(0.3, 9), st.integers(0, 5))
def test_cut_and_paste_adds_the_box_once_more_and_nothing_else(shift, begin, length, seed):
    example = make_example(seed) | {"box_frames": tf.constant([begin, begin + length])}
    pasted = augment.cut_and_paste(example, shift)
    before, after = example["spectrogram"].numpy(), pasted["spectrogram"].numpy()
    box = np.float32([begin, begin + length])
    in_box = range(max(int(np.floor(box[0])), 0), min(int(np.ceil(box[1])), FRAMES))
    expected = before.copy()
    for frame in in_box:
        if 0 <= frame + shift < FRAMES:
            expected[frame + shift] = np.maximum(before[frame + shift], before[frame])
    np.testing.assert_array_equal(after, expected)
    assert (after >= before).all()
    assert_same({**pasted, "spectrogram": 0}, {**example, "spectrogram": 0})


three_states = st.text("pau", min_size=CLASSES, max_size=CLASSES)
four_states = st.text("pahu", min_size=CLASSES, max_size=CLASSES)


@quickly
@given(four_states, four_states)
def test_what_is_partly_heard_in_a_crop_is_so_in_its_mixes_unless_they_know_it(first, second):
    mix = augment.mixup(make_example(1, first), make_example(2, second), 0.6)
    wanted = [float("h" in pair and "p" not in pair) for pair in zip(first, second, strict=True)]
    assert mix["partly"].numpy().tolist() == wanted
    assert (mix["partly"].numpy() * mix["known"].numpy()).max() == 0


@quickly
@given(three_states, three_states, st.floats(0, 1))
def test_a_mix_knows_what_both_crops_say(first, second, weight):
    one, other = make_example(1, first), make_example(2, second)
    mix = augment.mixup(one, other, weight)
    wanted = "".join(
        "p" if "p" in pair else "a" if pair == ("a", "a") else "u"
        for pair in zip(first, second, strict=True)
    )
    found = zip(mix["target"].numpy(), mix["known"].numpy(), strict=True)
    assert "".join(state(t, k) for t, k in found) == wanted
    # Interpolation by the definition of Zhang et al.
    sound = weight * one["spectrogram"].numpy() + (1 - weight) * other["spectrogram"].numpy()
    np.testing.assert_allclose(mix["spectrogram"], sound, rtol=1e-5, atol=1e-6)
    for name in ("box_frames", "box_bands", "box_class"):
        np.testing.assert_array_equal(mix[name], one[name])
    np.testing.assert_array_equal(mix["other_box"], [2.0, 3.25, 5.75, 0.5, 4.0])
    expected = np.maximum(one["inside"], other["inside"])
    np.testing.assert_array_equal(mix["inside"], expected)


@quickly
@given(three_states, three_states, st.floats(0.01, 0.99))
def test_weighted_labels_are_in_proportion_and_known_alike(first, second, weight):
    one, other = make_example(1, first), make_example(2, second)
    mix = augment.mixup(one, other, weight, labels="weighted")
    shares = [
        weight * (a == "p") + (1 - weight) * (b == "p") for a, b in zip(first, second, strict=True)
    ]
    np.testing.assert_allclose(mix["target"], shares, rtol=1e-5)
    np.testing.assert_array_equal(mix["known"], augment.mixup(one, other, weight)["known"])
    assert (mix["target"].numpy()[mix["known"].numpy() == 0] == 0).all()


# Probabilities as models give them: float32, on either side of one half, or unknown.
soft_targets = st.lists(st.none() | st.floats(0, 1, width=32), min_size=CLASSES, max_size=CLASSES)


@quickly
@given(soft_targets, soft_targets)
def test_a_class_is_in_a_mix_unless_it_is_in_neither_crop(first, second):
    mix = augment.mixup(make_soft(first), make_soft(second), 0.6)
    for a, b, target, known in zip(first, second, mix["target"], mix["known"], strict=True):
        if a is not None and b is not None:
            # In the first alone, the second alone, both: independent events.
            expected = a * (1 - b) + (1 - a) * b + a * b
        else:
            (expected,) = [t for t in (a, b) if t is not None and t >= 0.5] or [None]
        assert float(known) == (expected is not None)
        assert float(target) == pytest.approx(expected or 0.0, abs=1e-6)


@quickly
@given(three_states, three_states, st.sampled_from(["union", "weighted"]))
def test_soft_targets_of_0_and_1_are_mixed_as_hard_ones(first, second, rule):
    hard = augment.mixup(make_example(0, first), make_example(0, second), 0.6, rule)
    values = {"p": 1.0, "a": 0.0, "u": None}
    soft = [make_soft([values[state] for state in states]) for states in (first, second)]
    mix = augment.mixup(*soft, 0.6, rule)
    for name in ("target", "known"):
        np.testing.assert_array_equal(mix[name], hard[name])


def test_weighted_soft_targets_by_hand():
    mix = augment.mixup(
        make_soft([0.8, 0.02, 0.9, 0.4]), make_soft([0.2, 0.04, None, None]), 0.75, "weighted"
    )
    np.testing.assert_allclose(mix["target"], [0.65, 0.025, 0.675, 0], rtol=1e-6)
    assert mix["known"].numpy().tolist() == [1, 1, 1, 0]


def test_a_mix_of_people_with_models_is_labelled_by_hand():
    """People's states along the rows, what models say along the columns."""
    said = [0.9, 0.4, 0.0, None]
    expected = {
        # (target, known, partly) for each of what models say.
        "p": [(1, 1, 0), (1, 1, 0), (1, 1, 0), (1, 1, 0)],
        "a": [(0.9, 1, 0), (0.4, 1, 0), (0, 1, 0), (0, 0, 1)],
        "u": [(0.9, 1, 0), (0.4, 0, 0), (0, 0, 0), (0, 0, 1)],
        "h": [(0.9, 1, 0), (0.4, 0, 1), (0, 0, 1), (0, 0, 1)],
    }
    for state_of_people, labels in expected.items():
        mix = augment.mixup(make_example(1, 4 * state_of_people), make_soft(said), 0.6)
        found = np.stack([mix[name] for name in ("target", "known", "partly")], axis=1)
        np.testing.assert_allclose(found, labels, rtol=1e-6)
        assert float(mix["pseudo"]) == 0
    weighted = augment.mixup(make_example(1, "puuu"), make_soft(said), 0.75, "weighted")
    np.testing.assert_allclose(weighted["target"], [0.75 + 0.225, 0.1, 0, 0], rtol=1e-6)


def test_what_is_rather_present_stays_so_over_background():
    over = augment.lay_under(make_soft([0.9, 0.5, 0.3, None]), make_example(0, "uuuu"), 0.7)
    assert over["known"].numpy().tolist() == [1, 1, 0, 0]
    np.testing.assert_allclose(over["target"], [0.9, 0.5, 0, 0])
    # Hard labels of a weighted mix are present at any share.
    mix = augment.mixup(make_example(0, "paup"), make_example(0, "ppua"), 0.7, "weighted")
    over = augment.lay_under(mix, make_example(0, "uuuu"), 0.7)
    np.testing.assert_allclose(over["target"], [1, 0.3, 0, 0.7], rtol=1e-6)
    assert over["known"].numpy().tolist() == [1, 1, 0, 1]


@quickly
@given(st.floats(0, 1), st.sampled_from([1.0, 2.0]))
def test_power_adds_where_the_values_are_logs(weight, power):
    one, other = make_example(1, "pau"), make_example(2, "uap")
    mix = augment.mixup(one, other, weight, power_of_log=power)
    first, second = (np.float64(e["spectrogram"].numpy()) for e in (one, other))
    sum_of_powers = weight * np.exp(first) ** power + (1 - weight) * np.exp(second) ** power
    np.testing.assert_allclose(np.exp(mix["spectrogram"]) ** power, sum_of_powers, rtol=1e-4)
    plain = augment.mixup(one, other, weight)
    for name in ("target", "known", "box_frames"):
        np.testing.assert_array_equal(mix[name], plain[name])


def test_power_of_far_louder_sound_does_not_overflow():
    loud, faint = tf.constant([80.0, 20.0]), tf.constant([10.0, 20.0])
    mixed = augment.add_sounds(loud, faint, tf.constant(0.5), 2.0)
    np.testing.assert_allclose(mixed, [80.0 - np.log(2.0) / 2, 20.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("compression", "factor", "summand"),
    [("pcen", 2.0, 0.0), ("log", 1.0, np.log(2.0)), ("pcen_log", [2.0, 1.0], [0.0, np.log(2.0)])],
)
def test_gain_multiplies_pcen_by_its_exponential_and_adds_to_logs(compression, factor, summand):
    example = make_example()
    louder = augment.change_gain(example, float(np.log(2.0)), compression)
    expected = example["spectrogram"].numpy() * np.float32(factor) + np.float32(summand)
    np.testing.assert_allclose(louder["spectrogram"], expected, rtol=1e-6)
    assert_same({**louder, "spectrogram": 0}, {**example, "spectrogram": 0})


@quickly
@given(st.sampled_from([0, 1]), st.integers(0, 14), st.integers(0, 2**31 - 1))
def test_a_mask_is_one_stripe_no_wider_than_said_at_the_mean(axis, widest, seed):
    example = make_example(seed % 7)
    masked = augment.mask_stripe(example, axis, widest, tf.constant([seed, 1]))
    before, after = example["spectrogram"].numpy(), masked["spectrogram"].numpy()
    changed = before != after
    np.testing.assert_array_equal(changed[..., 0], changed[..., 1])
    means = np.broadcast_to(before.mean(axis=(0, 1)), before.shape)
    np.testing.assert_allclose(after[changed], means[changed], rtol=1e-4, atol=1e-6)
    changed = changed[..., 0]
    lines = np.flatnonzero(changed.any(axis=1 - axis))
    assert len(lines) <= widest
    assert changed.sum() == len(lines) * changed.shape[1 - axis], "a stripe is masked in part"
    assert len(lines) == 0 or np.array_equal(lines, range(lines[0], lines[-1] + 1))
    assert_same({**masked, "spectrogram": 0}, {**example, "spectrogram": 0})


def test_masks_come_in_all_widths_and_places():
    example = make_example()
    widths, begins = set(), set()
    for seed in range(80):
        masked = augment.mask_stripe(example, 0, 3, tf.constant([seed, 0]))
        changed = (masked["spectrogram"] != example["spectrogram"]).numpy().any(axis=(1, 2))
        lines = np.flatnonzero(changed)
        widths.add(len(lines))
        begins |= set(lines[:1].tolist())
    assert widths == {0, 1, 2, 3}
    assert begins == set(range(FRAMES))


@pytest.mark.parametrize("alpha", [0.1, 0.4, 5.0])
def test_mixing_weights_follow_the_larger_half_of_beta(alpha):
    seeds = tf.stack([tf.range(1500), tf.range(1500) + 7], axis=1)
    dataset = tf.data.Dataset.from_tensor_slices(seeds)
    weights = np.array(
        list(dataset.map(lambda s: augment.beta_weight(alpha, s)).as_numpy_iterator())
    )
    assert ((weights >= 0.5) & (weights <= 1)).all()
    x = np.random.default_rng(0).beta(alpha, alpha, 200_000)
    quantiles = [0.2, 0.4, 0.6, 0.8]
    wanted = np.quantile(np.maximum(x, 1 - x), quantiles)
    np.testing.assert_allclose(np.quantile(weights, quantiles), wanted, atol=0.04)


OPERATIONS = {
    "flip": augment.flip_time,
    "cut_and_paste": lambda example: augment.cut_and_paste(example, tf.constant(4)),
    "mixup": lambda example: augment.mixup(
        example, augment.flip_time(example), augment.beta_weight(0.4, tf.constant([3, 4]))
    ),
    "power_mixup": lambda example: augment.mixup(
        example, augment.flip_time(example), tf.constant(0.7), power_of_log=2.0
    ),
    "lay_under": lambda example: augment.lay_under(
        example, augment.flip_time(example), tf.constant(0.7), 2.0
    ),
    "bands": lambda example: augment.shift_bands(
        example | {"box_bands": tf.constant([1.0, 2.0])}, tf.constant(2)
    ),
    "equalizer": lambda example: augment.change_gain(
        example, augment.equalizer_curve(MELS, 0.3, tf.constant([1, 3])), "log"
    ),
    "gain": lambda example: augment.change_gain(example, 0.3, "log"),
    "gain_of_both": lambda example: augment.change_gain(example, 0.3, "pcen_log"),
    "noise": lambda example: augment.add_noise(example, 0.3, tf.constant([1, 3])),
    "click": lambda example: augment.add_click(example, tf.constant([1, 3])),
    "frequency_mask": lambda example: augment.mask_stripe(example, 1, 4, tf.constant([1, 3])),
    "time_mask": lambda example: augment.mask_stripe(example, 0, 4, tf.constant([1, 3])),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_gives_the_same_in_a_pipeline_and_again(name):
    operation, example = OPERATIONS[name], make_example()
    eagerly = operation(example)
    assert_same(operation(example), eagerly)
    dataset = tf.data.Dataset.from_tensors(example).map(operation)
    [in_pipeline] = list(dataset)
    assert in_pipeline.keys() == eagerly.keys()
    for key in eagerly:
        # A compiled graph may fuse a product and a sum into one rounding.
        np.testing.assert_allclose(in_pipeline[key], eagerly[key], rtol=1e-6, atol=1e-6)


def plain_example(frames=20, bands=6, seed=3):
    """Positive values; those of the second channel are ten times as large."""
    generator = np.random.default_rng(seed)
    return {
        "spectrogram": tf.constant(generator.random((frames, bands, 2)) * [1, 10], tf.float32),
        "target": tf.constant([1.0, 0.0, 0.0]),
        "known": tf.constant([1.0, 1.0, 0.0]),
        "partly": tf.constant([0.0, 0.0, 0.0]),
        "box_frames": tf.constant([4.0, 9.0]),
        "box_bands": tf.constant([1.0, 4.0]),
        "pseudo": tf.constant(0.0),
    }


def test_a_gain_of_every_band_adds_to_its_logs():
    example = plain_example()
    curve = augment.equalizer_curve(6, 0.5, tf.constant([1, 2]))
    changed = augment.change_gain(example, curve, "log")
    expected = example["spectrogram"].numpy() + curve.numpy()[np.newaxis]
    np.testing.assert_allclose(changed["spectrogram"], expected, rtol=1e-6)


def test_equalizer_is_straight_between_normal_points():
    curves = np.stack(
        [augment.equalizer_curve(26, 0.5, tf.constant([seed, 2]))[:, 0] for seed in range(400)]
    )
    points = curves[:, ::5]  # 6 points, 5 bands from one to the next
    np.testing.assert_allclose(points.std(), 0.5, rtol=0.05)
    assert abs(np.corrcoef(points.T)[np.triu_indices(6, 1)]).max() < 0.3
    between = np.interp(np.arange(26), np.arange(0, 26, 5), points[0])
    np.testing.assert_allclose(curves[0], between, atol=1e-5)


@pytest.mark.parametrize("bands", [-2, 0, 3])
def test_bands_move_with_their_box(bands):
    example = plain_example() | {"box_bands": tf.constant([1.0, 4.0])}
    moved = augment.shift_bands(example, bands)
    before, after = example["spectrogram"].numpy(), moved["spectrogram"].numpy()
    for band in range(6):
        np.testing.assert_array_equal(after[:, band], before[:, min(max(band - bands, 0), 5)])
    assert moved["box_bands"].numpy().tolist() == [1.0 + bands, 4.0 + bands]


def test_over_unmarked_sound_absent_becomes_unknown():
    example = plain_example()
    nothing = tf.zeros(3)
    below = {"spectrogram": tf.ones_like(example["spectrogram"])}
    below |= dict.fromkeys(("target", "known", "partly"), nothing)
    mixed = augment.lay_under(example, below, 0.75)
    np.testing.assert_allclose(mixed["spectrogram"], 0.75 * example["spectrogram"] + 0.25)
    assert mixed["target"].numpy().tolist() == [1.0, 0.0, 0.0]
    assert mixed["known"].numpy().tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("over", "below", "mix"),
    # Present, absent, unknown, and partly heard.
    [("pppp", "paup", "pppp"), ("aaaa", "paup", "hauh"), ("uuuu", "paup", "huuh")],
)
def test_over_sound_of_which_all_is_known_absent_stays_absent(over, below, mix):
    mixed = augment.lay_under(make_example(1, over), make_example(2, below), 0.75)
    labels = zip(*(mixed[name].numpy() for name in ("target", "known", "partly")), strict=True)
    states = {(1, 1, 0): "p", (0, 1, 0): "a", (0, 0, 0): "u", (0, 0, 1): "h"}
    assert "".join(states[label] for label in labels) == mix


def test_noise_has_the_deviation_asked_for():
    example = plain_example(frames=400, bands=60)
    noisy = augment.add_noise(example, 0.5, tf.constant([1, 2]))
    noise = (noisy["spectrogram"] - example["spectrogram"]).numpy()
    expected = 0.5 * np.std(example["spectrogram"].numpy(), axis=(0, 1))
    np.testing.assert_allclose(np.std(noise, axis=(0, 1)), expected, rtol=0.03)
    assert (abs(noise.mean(axis=(0, 1))) < 0.03 * expected).all()
    # One noise, in the deviations of each channel.
    np.testing.assert_allclose(*np.moveaxis(noise / expected, -1, 0), atol=1e-4)


def test_a_click_is_one_frame():
    example = plain_example()
    clicked = augment.add_click(example, tf.constant([5, 6]))["spectrogram"].numpy()
    changed = np.flatnonzero((clicked != example["spectrogram"].numpy()).any(axis=(1, 2)))
    assert len(changed) == 1
    assert (clicked[changed[0]] == example["spectrogram"].numpy().max(axis=(0, 1))).all()


@pytest.mark.parametrize("seed", range(6))
def test_a_mask_spares_the_bands_of_the_box(seed):
    example = plain_example(bands=12)
    masked = augment.mask_stripe(example, 1, 12, tf.constant([seed, 0]), tf.constant([3.0, 7.0]))
    before, after = example["spectrogram"].numpy(), masked["spectrogram"].numpy()
    np.testing.assert_array_equal(before[:, 3:8], after[:, 3:8])
