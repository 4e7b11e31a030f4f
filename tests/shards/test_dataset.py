"""Batches: their labels against the CSV rows, their repeatability, and no leak between folds.

Where a training crop was cut is not read from our bookkeeping but found again: the noise makes
every stretch of a recording unlike all others.
"""

import csv

import numpy as np
import pytest
import tensorflow as tf

from rfcx_tf.core.config import Config
from rfcx_tf.core.errors import UserError
from rfcx_tf.labels.annotations import read_kaggle_folder
from rfcx_tf.shards.cut import CropCutter
from rfcx_tf.shards.dataset import LABELS, training_dataset, validation_dataset
from rfcx_tf.shards.make import make_shards
from rfcx_tf.shards.records import ShardReader, parse_crop

HOP_S = 128 / 8000
SPECIES = [2, 5, 9]
NO_CHANGE = {
    "tp_shift_s": 0.0,
    "fp_shift_boxes": 0.0,
    "fp_flip": 0.0,
    "fp_cut_paste": 0.0,
    "fp_mixup": 0.0,
    "tp_mixup": 0.0,
}
EVERYTHING = {
    "tp_shift_s": 0.3,
    "tp_mixup": 0.5,
    "gain_sd": 0.2,
    "equalizer_sd": 0.2,
    "band_shift": 2,
    "stretch": 0.2,
    "frequency_masks": 2,
    "time_masks": 1,
}


def changed(config, **sections):
    values = config.model_dump()
    for section, updates in sections.items():
        if isinstance(updates, dict):
            values[section] |= updates
        else:
            values[section] = updates
    return Config.model_validate(values)


@pytest.fixture(scope="module")
def dense_data(tiny_data, tmp_path_factory):
    """The sound of `tiny_data` under 12 random boxes a recording, many longer than a crop."""
    folder = tmp_path_factory.mktemp("dense_data")
    (folder / "train").symlink_to(tiny_data / "train")
    random = np.random.default_rng(1)
    header = ["recording_id", "species_id", "t_min", "t_max", "f_min", "f_max"]
    for name in ("train_tp.csv", "train_fp.csv"):
        rows = []
        for number in range(10):
            for _ in range(6):
                length_s = 2 ** random.uniform(-4, 2)
                begin_s = random.uniform(0, 6 - length_s)
                species = int(random.choice(SPECIES))
                rows.append([f"tiny{number:02d}", species, begin_s, begin_s + length_s, 10, 20])
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
    return folder


@pytest.fixture(scope="module")
def dense_reader(dense_data, tiny_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense_shards")
    make_shards(read_kaggle_folder(dense_data), tiny_config, dense_data, folder, progress=False)
    return ShardReader(folder)


@pytest.fixture(scope="module")
def rows_of(dense_data):
    return read_rows(dense_data)


@pytest.fixture(scope="module")
def rows_of_tiny(tiny_data):
    return read_rows(tiny_data)


def read_rows(folder):
    """(species, t_min, t_max, present) by recording, straight from the CSV files."""
    rows = {}
    for present, name in ((True, "train_tp.csv"), (False, "train_fp.csv")):
        with (folder / name).open() as file:
            for row in csv.DictReader(file):
                box = (int(row["species_id"]), float(row["t_min"]), float(row["t_max"]), present)
                rows.setdefault(row["recording_id"], []).append(box)
    return rows


@pytest.fixture(scope="module")
def places(tiny_data, tiny_config):
    """Recording and frame of every spectrogram frame, by the frame's bytes in float16."""
    from rfcx_tf.audio.decode import read_audio
    from rfcx_tf.frontend.frontend import FrontEnd

    front_end = FrontEnd(tiny_config.frontend)
    transform = tf.function(front_end, input_signature=[tf.TensorSpec([None, None])])
    place_of = {}
    for path in sorted((tiny_data / "train").iterdir()):
        spectrogram = transform(read_audio(path, 8000)[None])[0].numpy().astype(np.float16)
        for frame, values in enumerate(spectrogram):
            place_of[values.tobytes()] = (path.stem, frame)
    assert len(place_of) == 10 * 376
    return place_of


def place_of_crop(spectrogram, places):
    """(recording, first frame) of an unchanged crop; checks that its frames are in a row."""
    found = [places[frame.astype(np.float16).tobytes()] for frame in spectrogram]
    name, start = found[0]
    assert found == [(name, start + i) for i in range(len(spectrogram))]
    return name, start


def labels_by_hand(rows, start_frame, frames):
    """States by species: present True, absent False, unknown None, partly heard "partly"; and
    what is on the edge."""
    begin_s, crop_s = start_frame * HOP_S, frames * HOP_S
    states, unsure = dict.fromkeys(SPECIES), set()
    for wanted in (False, True):
        for species, t_min, t_max, present in rows:
            inside_s = min(t_max, begin_s + crop_s) - max(t_min, begin_s)
            share = inside_s / min(t_max - t_min, crop_s)
            if abs(share - 0.5) < 1e-3 or abs(share) < 1e-3:
                unsure.add(species)
            if present == wanted and share >= 0.5:
                states[species] = present
            elif present and wanted and share > 0 and states[species] is not True:
                states[species] = "partly"
    return states, unsure


def check_labels(batches, rows_of, places):
    """Counts the crops by state; fails where a label differs from the one found by hand."""
    counts, starts = dict.fromkeys([True, False, None, "partly"], 0), set()
    names = ("spectrogram", "target", "known", "partly")
    for batch in batches:
        for sound, target, known, partly in zip(*(batch[n].numpy() for n in names), strict=True):
            name, start = place_of_crop(sound, places)
            starts.add((name, start))
            states, unsure = labels_by_hand(rows_of[name], start, len(sound))
            for index, species in enumerate(SPECIES):
                if species in unsure:
                    continue
                state = states[species]
                assert known[index] == (state in (True, False)), (name, start, species)
                assert partly[index] == (state == "partly"), (name, start, species)
                assert target[index] == (state is True), (name, start, species)
                counts[state] += 1
    return counts, starts


def take(dataset, count):
    return list(dataset.take(count))


def as_numpy(batches):
    return {name: np.concatenate([batch[name].numpy() for batch in batches]) for name in batches[0]}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.fixture(scope="module")
def reader(tiny_shards):
    return ShardReader(tiny_shards)


@pytest.fixture(scope="module")
def everything(reader, tiny_config):
    """The first batches with every augmentation: the dataset, and what it gave."""
    dataset = training_dataset(reader, changed(tiny_config, augment=EVERYTHING), [0])
    return dataset, take(dataset, 6)


def test_batches_have_fixed_shapes_in_float32_and_no_nan(everything):
    dataset, batches = everything
    wanted = {"spectrogram": (8, 64, 32), "pseudo": (8,)}
    wanted |= dict.fromkeys(("target", "known", "partly"), (8, 3))
    wanted |= {"boxes": (8, 2, 5), "inside": (8, 4, 3)}
    assert {name: spec.shape.as_list() for name, spec in dataset.element_spec.items()} == {
        name: list(shape) for name, shape in wanted.items()
    }
    for batch in batches:
        assert {name: tuple(value.shape) for name, value in batch.items()} == wanted
        assert all(value.dtype == tf.float32 for value in batch.values())
        assert all(np.isfinite(value).all() for value in batch.values())
        known, target = batch["known"].numpy(), batch["target"].numpy()
        assert set(known.ravel()) <= {0.0, 1.0}
        assert (target[known == 0] == 0).all()
        assert (known.sum(axis=1) >= 1).all(), "a crop that says nothing"
        assert (batch["pseudo"].numpy() == 0).all()


def test_training_labels_are_what_the_rows_say_at_every_shift(
    dense_reader, tiny_config, rows_of, places
):
    shifts = {"tp_shift_s": 0.5, "fp_shift_boxes": 1.0}
    config = changed(tiny_config, augment=NO_CHANGE | shifts)
    batches = take(training_dataset(dense_reader, config, [0, 1]), 25)
    counts, starts = check_labels(batches, rows_of, places)
    assert min(counts.values()) > 50, "a state is hardly tried"
    assert len(starts) > 150, "crops are hardly shifted"


def test_stretched_boxes_keep_their_labels(reader, tiny_config):
    """A crop around a box is around it at any speed; a faster one holds no less."""
    batches = {}
    for stretch in (0.0, 0.25):
        config = changed(tiny_config, augment=NO_CHANGE | {"stretch": stretch})
        batches[stretch] = as_numpy(take(training_dataset(reader, config, [0, 1]), 10))
    plain, stretched = batches[0.0], batches[0.25]
    # Example n is the same row in both; without shifts its own label is all that is sure.
    assert (stretched["known"].sum(axis=1) > 0).all()
    assert (stretched["known"] == plain["known"]).mean() > 0.95
    assert not np.array_equal(stretched["spectrogram"], plain["spectrogram"])


def test_validation_labels_are_what_the_rows_say(dense_reader, tiny_config, rows_of, places):
    rows = np.arange(len(dense_reader.index))
    batches = list(validation_dataset(dense_reader, tiny_config, rows))
    counts, _ = check_labels(batches, rows_of, places)
    assert min(counts.values()) > 20


def test_validation_crops_come_in_order_centred_on_their_boxes(reader, tiny_config, places):
    rows = np.array([7, 3, 21, 0, 39, 38, 12, 5, 20])
    batches = list(validation_dataset(reader, tiny_config, rows, batch_size=4))
    assert [len(batch["target"]) for batch in batches] == [4, 4, 1]
    crops = as_numpy(batches)
    assert crops.keys() == {"spectrogram", *LABELS}
    assert (crops["pseudo"] == 0).all()
    for row, spectrogram in zip(rows, crops["spectrogram"], strict=True):
        entry = reader.index.loc[row]
        name, start = place_of_crop(spectrogram, places)
        assert name == entry["recording_id"]
        centre = (entry["t_min"] + entry["t_max"]) / 2 / HOP_S
        # Centred to the frame but at the borders: 376 frames, crops of 64.
        assert abs(start - np.clip(centre - 32, 0, 376 - 64)) <= 0.51
    own = [SPECIES.index(species) for species in reader.index.loc[rows, "species_id"]]
    is_tp = (reader.index.loc[rows, "kind"] == "tp").to_numpy()
    assert (crops["known"][np.arange(9), own] == 1).all()
    np.testing.assert_array_equal(crops["target"][np.arange(9), own], is_tp)


def test_no_recording_of_a_validation_fold_is_ever_drawn(reader, tiny_config, places):
    config = changed(tiny_config, augment=NO_CHANGE, dataset={"tp_fraction": 0.5})
    fold_of = {name: entry["fold"] for name, entry in reader.manifest.recordings.items()}
    for fold in (0, 1):
        drawn = as_numpy(take(training_dataset(reader, config, [1 - fold]), 12))
        trained = {place_of_crop(s, places)[0] for s in drawn["spectrogram"]}
        held_out = list(validation_dataset(reader, config, reader.rows([fold])))
        validated = {place_of_crop(s, places)[0] for s in as_numpy(held_out)["spectrogram"]}
        assert trained == {name for name, own in fold_of.items() if own == 1 - fold}
        assert validated == {name for name, own in fold_of.items() if own == fold}
        assert not trained & validated


def test_partners_in_mixes_come_from_the_same_folds(reader, tiny_config, places, monkeypatch):
    read = []
    original = ShardReader.__getitem__

    def noted(self, row):
        read.append(int(row))
        return original(self, row)

    monkeypatch.setattr(ShardReader, "__getitem__", noted)
    config = changed(tiny_config, augment={"tp_mixup": 1.0, "fp_mixup": 1.0})
    take(training_dataset(reader, config, [1]), 10)
    assert len(read) >= 160
    recordings = {
        parse_crop(original(reader, row))["recording_id"].numpy().decode() for row in set(read)
    }
    assert {reader.manifest.recordings[name]["fold"] for name in recordings} == {1}


def test_every_kind_comes_in_its_share(reader, tiny_config, places):
    config = changed(tiny_config, augment=NO_CHANGE, dataset={"tp_fraction": 0.75})
    drawn = as_numpy(take(training_dataset(reader, config, [0, 1]), 10))
    # In these data a crop has one row, so what is known is that row.
    assert (drawn["known"].sum(axis=1) == 1).all()
    assert drawn["target"].sum() == 60
    per_class = drawn["target"].sum(axis=0)
    assert per_class.max() - per_class.min() <= 1


def test_the_same_seed_gives_the_same_examples_and_another_one_does_not(
    reader, tiny_config, everything
):
    dataset, batches = everything
    first = as_numpy(batches)
    assert_same(as_numpy(take(dataset, 6)), first)
    other = changed(tiny_config, augment=EVERYTHING, seed=1)
    other = as_numpy(take(training_dataset(reader, other, [0]), 6))
    assert not np.array_equal(other["spectrogram"], first["spectrogram"])


def test_a_resumed_run_sees_the_examples_that_it_would_have_seen(reader, tiny_config, everything):
    config = changed(tiny_config, augment=EVERYTHING)
    whole = as_numpy(everything[1])
    resumed = as_numpy(take(training_dataset(reader, config, [0], first_draw=13), 3))
    assert_same(resumed, {name: value[13 : 13 + 24] for name, value in whole.items()})


def test_draws_go_on_behind_two_to_the_31(reader, tiny_config, everything):
    config = changed(tiny_config, augment=EVERYTHING)
    [far] = take(training_dataset(reader, config, [0], first_draw=2**31 - 4), 1)
    far, near = far["spectrogram"].numpy(), everything[1][0]["spectrogram"].numpy()
    assert np.isfinite(far).all()
    assert not np.array_equal(far[4:], near[:4])


@pytest.fixture(scope="module")
def plain(reader, tiny_config):
    """The first batches as they are without augmentation and pseudo-labelled crops."""
    config = changed(tiny_config, augment=NO_CHANGE)
    return as_numpy(take(training_dataset(reader, config, [0]), 5))


def test_every_augmentation_takes_part_and_only_where_it_should(reader, tiny_config, plain):
    """Against the same draws without augmentation: TP crops change with tp_* alone."""
    is_tp = plain["target"].sum(axis=1) > 0
    assert 0 < is_tp.sum() < len(is_tp)
    touched = {
        "tp_mixup": (1.0, is_tp),
        "fp_mixup": (1.0, ~is_tp),
        "fp_flip": (1.0, ~is_tp),
        "fp_cut_paste": (1.0, ~is_tp),
        "fp_shift_boxes": (1.0, ~is_tp),
        "tp_shift_s": (0.5, is_tp),
    }
    for name, (value, wanted) in touched.items():
        config = changed(tiny_config, augment=NO_CHANGE | {name: value})
        crops = as_numpy(take(training_dataset(reader, config, [0]), 5))
        differs = (crops["spectrogram"] != plain["spectrogram"]).any(axis=(1, 2))
        assert not differs[~wanted].any(), name
        # A shift may round to none, and among few rows of a class a partner is often the crop.
        assert differs[wanted].mean() > 0.4, name
        if name == "fp_flip":
            flipped = plain["spectrogram"][wanted][:, ::-1]
            np.testing.assert_array_equal(crops["spectrogram"][wanted], flipped)


@pytest.fixture(scope="module")
def readers_of_compressions(tiny_data, tiny_config, tmp_path_factory):
    """The same data with either compression and with both: (shards, recipe) by compression."""
    made = {}
    for compression in ("pcen", "log", "pcen_log"):
        config = changed(
            tiny_config,
            frontend={"compression": compression},
            crops={"unlabelled_per_recording": 2},
        )
        folder = tmp_path_factory.mktemp(compression)
        make_shards(read_kaggle_folder(tiny_data), config, tiny_data, folder, progress=False)
        made[compression] = ShardReader(folder), config
    return made


def test_two_channels_are_augmented_as_either_alone(readers_of_compressions):
    augmented = {
        **EVERYTHING,
        **{"fp_flip": 0.5, "fp_cut_paste": 0.5, "fp_mixup": 0.5, "background": 0.3},
        **{"noise_sd": 0.3, "click": 0.5, "frequency_masks_spare_box": True},
        "frequency_mask_bands": 8,
    }
    trained, validated = {}, {}
    for compression, (reader, config) in readers_of_compressions.items():
        dataset = training_dataset(reader, changed(config, augment=augmented), [0])
        assert dataset.element_spec["spectrogram"].shape == (8, 64, config.frontend.bands)
        trained[compression] = as_numpy(take(dataset, 5))
        validated[compression] = as_numpy(list(validation_dataset(reader, config, np.arange(9))))
    for crops in (trained, validated):
        image = crops["pcen_log"]["spectrogram"].reshape(-1, 64, 32, 2)
        for channel, compression in enumerate(("pcen", "log")):
            single = crops[compression]
            # Sums over one channel and over two may be taken in another order.
            np.testing.assert_allclose(
                image[..., channel], single["spectrogram"], rtol=1e-4, atol=1e-4
            )
            for name in ("target", "known"):
                np.testing.assert_array_equal(crops["pcen_log"][name], single[name])


def test_unlabelled_crops_stay_where_no_row_lies(readers_of_compressions):
    reader, config = readers_of_compressions["log"]
    config = changed(config, augment={"fp_shift_boxes": 0.9, "tp_shift_s": 0.2, "stretch": 0.3})
    cutter = CropCutter(config, reader.manifest)
    vary = tf.function(cutter.varied)
    rows = np.flatnonzero(reader.index["kind"] == "unlabelled")
    # In frames of the crop, which has been slowed: the stretch without rows is its "box".
    lengths = set()
    for number in range(20):
        crop, seed = reader[rows[number % len(rows)]], tf.constant([number, 7])
        example, is_fp = vary(tf.constant(crop), seed)
        begin, end = example["box_frames"].numpy()
        assert begin <= 0.5 and end >= config.crop_frames - 0.5
        assert not is_fp
        lengths.add(round(float(end - begin)))
    assert max(lengths) > 1.2 * config.crop_frames


def test_background_leaves_crops_of_fp_rows_alone(readers_of_compressions):
    reader, config = readers_of_compressions["log"]
    dataset = {"tp_fraction": 0.0}
    without, laid_under = (
        as_numpy(
            take(
                training_dataset(
                    reader,
                    changed(config, augment={"background": share}, dataset=dataset),
                    [0],
                ),
                2,
            )
        )
        for share in (0.0, 1.0)
    )
    assert without["known"].any()
    for name, values in without.items():
        np.testing.assert_array_equal(laid_under[name], values)


# Of these rows of `tiny_shards`, one a recording, models say: class 0 likely present, class 1
# surely absent, class 2 unknown (whatever stands there).
SOFT, SOFT_KNOWN = (0.875, 0.03125, 0.5), (1, 1, 0)


@pytest.fixture(scope="module")
def pseudo(reader, write_pseudo_shards, tmp_path_factory):
    """A window of each recording, all in one group; those in fold 1 once more, in no fold.

    They are around TP boxes and FP boxes.
    """
    of_recording = reader.index.groupby("recording_id").groups.values()
    rows = np.array([own[number % len(own)] for number, own in enumerate(of_recording)])
    folds = reader.index["fold"].to_numpy()[rows]
    rows = np.concatenate([rows, rows[folds == 1]])
    folds = np.concatenate([folds, np.full((folds == 1).sum(), -1)])
    labels = [np.tile(one, (len(rows), 1)) for one in (SOFT, SOFT_KNOWN)]
    folder = tmp_path_factory.mktemp("pseudo")
    return ShardReader(write_pseudo_shards(folder, rows, *labels, folds))


def with_pseudo(config, **options):
    return changed(config, augment=NO_CHANGE, pseudo=options)


@pytest.mark.parametrize("fraction", [0.0, 0.375, 1.0])
def test_pseudo_crops_come_in_their_share_beside_the_rows_drawn_without_them(
    reader, pseudo, plain, tiny_config, fraction
):
    config = with_pseudo(tiny_config, fraction=fraction)
    crops = as_numpy(take(training_dataset(reader, config, [0], pseudo=pseudo), 5))
    shares = np.cumsum(crops["pseudo"])
    np.testing.assert_array_equal(shares, np.floor(fraction * np.arange(1, 41)))
    anchors = crops["pseudo"] == 0
    for name in ("spectrogram", "target", "known"):
        np.testing.assert_array_equal(crops[name][anchors], plain[name][: anchors.sum()])


def test_pseudo_crops_have_their_window_and_what_rows_say_before_what_models_say(
    reader, pseudo, tiny_config, rows_of_tiny, places
):
    config = with_pseudo(tiny_config, fraction=1.0, mixup=0.0)
    crops = as_numpy(take(training_dataset(reader, config, [0, 1], pseudo=pseudo), 12))
    windows = dict(zip(pseudo.index["recording_id"], pseudo.index["t_min"] / HOP_S, strict=True))
    shifts, counts = [], dict.fromkeys([True, False, None], 0)
    for sound, target, known in zip(
        crops["spectrogram"], crops["target"], crops["known"], strict=True
    ):
        name, start = place_of_crop(sound, places)
        shifts.append(start - windows[name])
        states, unsure = labels_by_hand(rows_of_tiny[name], start, len(sound))
        for index, species in enumerate(SPECIES):
            if species in unsure:
                continue
            state = states[species]
            counts[state] += 1
            if state is None:
                expected = (SOFT[index] * SOFT_KNOWN[index], SOFT_KNOWN[index])
            else:
                expected = (float(state), 1)
            assert (target[index], known[index]) == expected
    assert min(counts.values()) > 20
    # Two cells of 16 frames to the next window: half of that at most, and all of it used.
    assert max(np.abs(shifts)) <= 16
    assert min(shifts) < -12 and max(shifts) > 12


def test_a_pseudo_crop_is_its_window_whatever_the_classes_look_at(
    reader, pseudo, tiny_config, places
):
    """With windows per class of unequal length, whose middles are not that of the crop."""
    config = with_pseudo(tiny_config, fraction=1.0, mixup=0.0, slide_s=0.01)
    config = changed(config, model={"head": {"kind": "per_class", "window_s": 0.6}})
    crops = as_numpy(take(training_dataset(reader, config, [0, 1], pseudo=pseudo), 12))
    windows = dict(zip(pseudo.index["recording_id"], pseudo.index["t_min"] / HOP_S, strict=True))
    found = (place_of_crop(sound, places) for sound in crops["spectrogram"])
    shifts = [start - windows[name] for name, start in found]
    # One cell.
    assert -8 <= min(shifts) < -6
    assert 6 < max(shifts) <= 8


def test_pseudo_crops_of_held_out_recordings_are_never_drawn(
    reader, pseudo, tiny_config, monkeypatch
):
    read = []
    original = ShardReader.__getitem__

    def noted(self, row):
        if self is pseudo:
            read.append(row)
        return original(self, row)

    monkeypatch.setattr(ShardReader, "__getitem__", noted)
    config = changed(tiny_config, augment=NO_CHANGE | {"tp_mixup": 1.0})
    take(training_dataset(reader, config, [0], pseudo=pseudo), 8)
    # Each with its partner; those in no fold are held out by nobody.
    assert len(read) >= 64
    assert set(pseudo.index.loc[sorted(set(read)), "fold"]) == {0, -1}
    in_fold_1 = pseudo.index[pseudo.index["fold"] == 1].index
    only_1 = ShardReader(pseudo.folder)
    only_1.index = only_1.index.loc[in_fold_1].reset_index(drop=True)
    with pytest.raises(UserError, match="folds that are trained on"):
        training_dataset(reader, config, [0], pseudo=only_1)


def test_pseudo_crops_are_varied_as_tp_crops_and_mixed_among_themselves(
    reader, pseudo, tiny_config
):
    def crops_with(pseudo_mixup=0.0, **augment):
        options = {"fraction": 0.5, "mixup": pseudo_mixup}
        config = changed(tiny_config, augment=NO_CHANGE | augment, pseudo=options)
        return as_numpy(take(training_dataset(reader, config, [0], pseudo=pseudo), 4))

    plain = crops_with()
    is_pseudo = plain["pseudo"] == 1
    for options in (
        {"fp_mixup": 1.0, "fp_flip": 1.0, "fp_cut_paste": 1.0, "fp_shift_boxes": 1.0},
        {"tp_shift_s": 0.5, "tp_mixup": 1.0},
    ):
        crops = crops_with(**options)
        differs = (crops["spectrogram"] != plain["spectrogram"]).any(axis=(1, 2))
        assert differs[~is_pseudo].any()
        assert not differs[is_pseudo].any(), options
    for name, value in {"gain_sd": 0.2, "stretch": 0.2}.items():
        crops = crops_with(**{name: value})
        differs = (crops["spectrogram"] != plain["spectrogram"]).any(axis=(1, 2))
        assert differs[is_pseudo].mean() > 0.8, name
    mixed = crops_with(pseudo_mixup=1.0)
    np.testing.assert_array_equal(mixed["pseudo"], plain["pseudo"])
    # Only here: class 0 likely in both crops, or in one beside a row that says it is not.
    either = 1 - (1 - np.float32(SOFT[0])) ** 2
    targets = mixed["target"][is_pseudo]
    assert (targets[:, 0] == either).any()
    # A class that one crop's rows leave unknown is not known absent in a mix.
    assert set(mixed["known"][is_pseudo][:, 2]) == {0.0, 1.0}
    assert (targets[:, 2][mixed["known"][is_pseudo][:, 2] == 0] == 0).all()


def test_rows_are_mixed_with_windows_in_their_share_and_labelled_as_mixes(
    reader, pseudo, plain, tiny_config
):
    def crops_with(share, **augment):
        options = {"fraction": 0.0, "mixup_into_rows": share}
        config = changed(tiny_config, augment=NO_CHANGE | augment, pseudo=options)
        return as_numpy(take(training_dataset(reader, config, [0], pseudo=pseudo), 5))

    assert_same(crops_with(0.0), plain)
    mixed = crops_with(1.0)
    assert (mixed["spectrogram"] != plain["spectrogram"]).any(axis=(1, 2)).all()
    assert (mixed["pseudo"] == 0).all()
    for target, known, partly, own, own_known in zip(
        *(mixed[name] for name in ("target", "known", "partly")),
        *(plain[name] for name in ("target", "known")),
        strict=True,
    ):
        # Of the windows models say: class 0 likely, class 1 hardly, class 2 unknown; but a row in
        # the window may say it is there, or not.
        assert (target[own == 1] == 1).all() and (known[own == 1] == 1).all()
        if own[0] == 0:
            assert (target[0], known[0]) in {(SOFT[0], 1.0), (1.0, 1.0), (0.0, own_known[0])}
        if own[1] == 0:
            assert target[1] in (0.0, np.float32(SOFT[1]), 1.0)
            assert known[1] == max(own_known[1], target[1] == 1)
        if own[2] == 0:
            assert known[2] == 0 or target[2] == 1 or own_known[2] == 1
            assert target[2] in (0.0, 1.0)
            assert known[2] == 0 or partly[2] == 0
    assert (mixed["partly"][:, 2] == 1).any()
    # FP rows' own variations are not those of the windows; what is not mixed stays as it is.
    some = crops_with(0.5)
    same = (some["spectrogram"] == plain["spectrogram"]).all(axis=(1, 2))
    assert 8 < same.sum() < 32
    for name, values in some.items():
        np.testing.assert_array_equal(values[same], plain[name][same])
        np.testing.assert_array_equal(values[~same], mixed[name][~same])


def test_probabilities_have_their_power_when_they_are_learned_from(reader, pseudo, tiny_config):
    targets = {}
    for power in (1.0, 2.0):
        config = with_pseudo(tiny_config, fraction=1.0, mixup=0.0, power=power)
        crops = as_numpy(take(training_dataset(reader, config, [0], pseudo=pseudo), 3))
        targets[power] = crops["target"]
    # 0.875 and 0.03125 have exact squares; what rows say is 0 or 1.
    np.testing.assert_array_equal(targets[2.0], targets[1.0] ** 2)
    assert (targets[1.0] == SOFT[0]).any()


def test_windows_are_drawn_by_the_sum_of_their_targets(
    reader, write_pseudo_shards, tiny_config, tmp_path
):
    rows = reader.rows([0], "fp")[:3]
    soft = np.array([[0.5, 0.0, 0.0], [0.75, 0.0, 0.25], [0.25, 0.0, 0.0]])
    own = [SPECIES.index(species) for species in reader.index.loc[rows, "species_id"]]
    # What rows say is absent adds nothing.
    soft[np.arange(3), own] = 1.0
    known = np.ones((3, 3), int)
    folder = ShardReader(write_pseudo_shards(tmp_path, rows, soft, known))
    options = {"fraction": 1.0, "mixup": 0.0, "slide_s": 0.01}
    config = with_pseudo(tiny_config, draw="label_sum", power=2.0, **options)
    squares = (soft**2).sum(axis=1) - 1.0
    config = changed(config, training={"batch_size": 400})
    (batch,) = take(training_dataset(reader, config, [0], pseudo=folder), 1)
    found = batch["target"].numpy().sum(axis=1)
    for total in np.unique(squares):
        share = squares[squares == total].sum() / squares.sum()
        assert np.isclose(found, total).mean() == pytest.approx(share, abs=0.1)
    assert len(np.unique(squares)) > 1


def test_a_resumed_run_sees_the_pseudo_crops_that_it_would_have_seen(reader, pseudo, tiny_config):
    options = NO_CHANGE | {"stretch": 0.2, "tp_shift_s": 0.3, "gain_sd": 0.2}
    drawn = {"fraction": 0.375, "mixup_into_rows": 0.5, "draw": "label_sum"}
    config = changed(tiny_config, augment=options, pseudo=drawn)
    whole = as_numpy(take(training_dataset(reader, config, [0], pseudo=pseudo), 5))
    resumed = training_dataset(reader, config, [0], first_draw=13, pseudo=pseudo)
    assert_same(
        as_numpy(take(resumed, 3)), {name: value[13 : 13 + 24] for name, value in whole.items()}
    )
    assert 0 < whole["pseudo"].mean() < 1
    assert np.isfinite(whole["spectrogram"]).all()


def test_folds_without_fp_rows_train_on_tp_alone(tiny_shards, tiny_config):
    reader = ShardReader(tiny_shards)
    reader.index.loc[reader.index["kind"] == "fp", "fold"] = 1
    crops = as_numpy(take(training_dataset(reader, tiny_config, [0]), 2))
    assert (crops["target"].sum(axis=1) == 1).all()
