"""Shards to batches: drawn evenly, cropped, labelled, augmented, by tf.data.

A batch is a dict: spectrogram [batch, frames, bands], target [batch, classes], known [batch,
classes], and pseudo [batch], 1 for crops that models labelled and 0 for others; all float32.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rfcx_tf.core.config import AugmentConfig, Config
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.windows import crop_spans
from rfcx_tf.frontend.frontend import mel_band_centres_hz
from rfcx_tf.shards import augment
from rfcx_tf.shards.records import NO_FOLD, ShardReader, parse_crop
from rfcx_tf.shards.sampler import BalancedSampler, PseudoSampler, split_draw

_BATCHED = ("spectrogram", "target", "known", "pseudo")


def training_dataset(
    reader: ShardReader,
    config: Config,
    folds: list[int],
    first_draw: int = 0,
    pseudo: ShardReader | None = None,
    share: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Endless augmented training batches from the given folds.

    Example number n depends on the seed and n alone: not on the number of threads, and not
    on whether the run was interrupted.

    Args:
        reader: the shards.
        config: the recipe.
        folds: folds to draw from.
        first_draw: number of the first example, for resuming.
        pseudo: shards of pseudo-labelled crops. `pseudo.fraction` of the examples are drawn from
            those of the same folds and of recordings that are in no fold; the others are the
            very rows that would be drawn without.
        share: which of how many equal parts of every batch, as for one of several workers; only
            these examples are made.

    Raises:
        UserError: if background or pseudo-labelled crops are asked for and there are none.
    """
    sampler = _sampler(reader, config, folds)
    geometry = _Geometry.of(reader, config)
    seed = config.seed
    unlabelled = reader.rows(folds, "unlabelled")
    if config.augment.background > 0 and len(unlabelled) == 0:
        raise UserError(
            f"augment.background needs shards with unlabelled crops. {reader.folder} has none "
            "in these folds. Make them with crops.unlabelled_per_recording above 0."
        )
    pseudo_fraction, pseudo_sampler = 0.0, None
    if pseudo is not None:
        pseudo_fraction = config.pseudo.fraction
        pseudo_sampler = _pseudo_sampler(pseudo, config, folds)

    def read(numbers):
        def crops_of(number: int) -> list[bytes]:
            is_pseudo, own_number = split_draw(number, pseudo_fraction)
            source, draws = (pseudo, pseudo_sampler) if is_pseudo else (reader, sampler)
            row, partner = draws.draw(own_number)
            crops = [source[row], source[partner]]
            if config.augment.background > 0:
                crops.append(reader[sampler.draw_background(number, unlabelled)])
            return crops

        def draw(numbers):
            return np.array([crops_of(int(n)) for n in numbers], dtype=object)

        crops = tf.numpy_function(draw, [numbers], tf.string)
        crops.set_shape([None, None])
        return numbers, crops

    def make(number, crops):
        # A draw number can pass 2**31, a seed is two int32.
        low = tf.cast(tf.bitwise.bitwise_and(number, 0x7FFFFFFF), tf.int32)
        high = tf.cast(tf.bitwise.right_shift(number, 31), tf.int32)
        key = tf.random.fold_in(tf.stack([tf.constant(seed, tf.int32), high]), low)
        return _training_example(crops, key, config, geometry)

    batch = config.training.batch_size
    own = batch // share[1]
    # Many draws in one call, since every call of Python costs as much as several draws.
    numbers = tf.data.Dataset.counter(start=first_draw, dtype=tf.int64).batch(batch)
    numbers = numbers.map(lambda all_numbers: all_numbers[share[0] * own : (share[0] + 1) * own])
    dataset = numbers.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).unbatch()
    dataset = dataset.map(make, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.batch(own, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def validation_dataset(
    reader: ShardReader, config: Config, rows: np.ndarray, batch_size: int | None = None
) -> tf.data.Dataset:
    """The crops of the given rows once, in order, centred on their boxes, not augmented."""
    geometry = _Geometry.of(reader, config)

    def read(row):
        serialized = tf.numpy_function(lambda r: reader[r], [row], tf.string)
        serialized.set_shape([])
        return serialized

    def make(serialized):
        stored = parse_crop(serialized, as_stored=True)
        return _labelled(_cut(stored, 0.0, config, geometry), config)

    dataset = tf.data.Dataset.from_tensor_slices(np.asarray(rows, np.int64))
    dataset = dataset.map(read, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.map(make, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.batch(batch_size or config.training.batch_size).prefetch(tf.data.AUTOTUNE)


def _sampler(reader: ShardReader, config: Config, folds: list[int]) -> BalancedSampler:
    species = reader.index["species_id"].to_numpy()
    tp_rows, fp_rows = reader.rows(folds, "tp"), reader.rows(folds, "fp")
    return BalancedSampler(
        tp_rows,
        species[tp_rows],
        fp_rows,
        species[fp_rows],
        tp_fraction=config.dataset.tp_fraction,
        balance_classes=config.dataset.balance_classes,
        seed=config.seed,
    )


def pseudo_rows(pseudo: ShardReader, folds: list[int]) -> np.ndarray:
    """The pseudo-labelled crops of these folds, and of recordings that are in no fold."""
    return pseudo.rows([*folds, NO_FOLD], "pseudo")


def _pseudo_sampler(pseudo: ShardReader, config: Config, folds: list[int]) -> PseudoSampler:
    rows = pseudo_rows(pseudo, folds)
    if len(rows) == 0:
        raise UserError(
            "Pseudo-labelled shards must hold crops of the folds that are trained on "
            f"({', '.join(map(str, folds))}). {pseudo.folder} holds none. Label recordings of "
            "these folds, or train without."
        )
    species = pseudo.index["species_id"].to_numpy()[rows]
    groups = species if config.pseudo.balance_classes else np.zeros_like(species)
    return PseudoSampler(rows, groups, seed=config.seed)


class _Geometry(NamedTuple):
    """What a crop covers: the species, and the frames that the windows of each look at.

    Attributes:
        species_ids: int64 [classes].
        spans: float32 [classes, 2].
    """

    species_ids: np.ndarray
    spans: np.ndarray

    @classmethod
    def of(cls, reader: ShardReader, config: Config) -> _Geometry:
        manifest = reader.manifest
        return cls(
            np.array([c.species_id for c in manifest.classes], np.int64),
            crop_spans(config, manifest.classes, manifest.mean_box_s),
        )

    def own_span(self, species_id) -> tf.Tensor:
        """The span of a species [2]; the widest one for crops that were cut for none."""
        own = tf.boolean_mask(self.spans, self.species_ids == species_id)
        widest = [self.spans[:, 0].min(), self.spans[:, 1].max()]
        return tf.concat([own, [widest]], axis=0)[0]


def _cut(stored: dict, shift_frames, config: Config, geometry: _Geometry, rate=None) -> dict:
    """Cuts a training crop out of a stored piece and labels it by all boxes in it.

    Its spectrogram is [frames, mels, channels], as augmentation takes it. With a `rate` the
    piece is played so many times as fast first.
    """
    frontend, frame_s = config.frontend, config.frontend.frame_s
    length = config.crop_frames
    origin = tf.cast(stored["start_frame"], tf.float32)
    own_box = stored["box"][:2] / frame_s - origin
    boxes = stored["box_times_s"] / frame_s - origin
    piece = stored["spectrogram"]
    frames = tf.shape(piece)[0]
    if rate is not None:
        own_box, boxes = own_box / rate, boxes / rate
        frames = tf.maximum(augment.stretched_frames(frames, rate), length)
    is_pseudo = stored["kind"] == "pseudo"
    # What models say of a window is said of the whole crop, not of one class's part of it.
    own_span = tf.where(is_pseudo, [0.0, length], geometry.own_span(stored["species_id"]))
    start = augment.crop_start(own_box, shift_frames, own_span, length, frames)
    first = tf.cast(start, tf.float32)
    # Only what the crop shows is converted, or stretched.
    if rate is None:
        image = tf.cast(piece[start : start + length], tf.float32)
    else:
        image = augment.stretch_time(piece, rate, start, length)
    image = tf.reshape(image, [length, frontend.n_mels, frontend.channels])
    target, known = augment.label_crop(
        boxes - first, stored["box_classes"], stored["box_present"], geometry.spans
    )
    soft_target, soft_known = _soft_labels(stored, classes=len(geometry.spans))
    return {
        "spectrogram": image,
        # What people say about a class comes before what models say.
        "target": tf.where(known > 0, target, soft_target),
        "known": tf.maximum(known, soft_known),
        "pseudo": tf.cast(is_pseudo, tf.float32),
        "box_frames": own_box - first,
        "box_bands": _bands_of(stored["box"][2:], config),
    }


def _soft_labels(stored: dict, classes: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Target and known [classes] of a pseudo-labelled crop; all unknown for another."""
    missing = [[0, classes - tf.shape(stored["soft_known"])[0]]]
    known = tf.ensure_shape(tf.pad(stored["soft_known"], missing), [classes])
    target = tf.where(known > 0, tf.pad(stored["soft_target"], missing), 0.0)
    return target, tf.cast(known, tf.float32)


def _bands_of(frequencies_hz, config: Config) -> tf.Tensor:
    """The mel bands whose centres are nearest below and above: float32 [2]."""
    centres = tf.constant(mel_band_centres_hz(config.frontend), tf.float32)
    low = tf.searchsorted(centres, frequencies_hz[:1], side="right") - 1
    high = tf.searchsorted(centres, frequencies_hz[1:], side="left")
    return tf.cast(tf.concat([low, high], axis=0), tf.float32)


def _training_example(crops, seed, config: Config, geometry: _Geometry) -> dict:
    """One example from the serialised crop, its partner in a mix, and perhaps background."""
    options = config.augment
    example, is_fp = _shifted_crop(crops[0], _stream(seed, 0), config, geometry)
    example = _augment_fp(example, is_fp, options, _stream(seed, 1))
    of_rows = tf.where(is_fp, options.fp_mixup, options.tp_mixup)
    probability = tf.where(example["pseudo"] > 0, config.pseudo.mixup, of_rows)
    # The front end takes the log of magnitudes or of powers.
    power_of_log = (
        2.0 / config.frontend.magnitude_power if options.mixup_domain == "power" else None
    )
    if max(options.tp_mixup, options.fp_mixup, config.pseudo.mixup) > 0:

        def mixed():
            other, _ = _shifted_crop(crops[1], _stream(seed, 3), config, geometry)
            other = _augment_fp(other, is_fp, options, _stream(seed, 4))
            weight = augment.beta_weight(options.mixup_alpha, _stream(seed, 5))
            return augment.mixup(example, other, weight, options.mixup_labels, power_of_log)

        example = tf.cond(_chance(_stream(seed, 2)) < probability, mixed, lambda: example)
    if options.background > 0:
        unmixed = example

        def over_background():
            below, _ = _shifted_crop(crops[2], _stream(seed, 8), config, geometry)
            weight = augment.beta_weight(options.mixup_alpha, _stream(seed, 9))
            return augment.lay_under(unmixed, below["spectrogram"], weight, power_of_log)

        chosen = _chance(_stream(seed, 7)) < options.background
        example = tf.cond(chosen, over_background, lambda: unmixed)
    if options.gain_sd > 0:
        normal = tf.random.stateless_normal([], _stream(seed, 6))
        log_gain = options.gain_sd * normal
        example = augment.change_gain(example, log_gain, config.frontend.compression)
    if options.noise_sd > 0:
        example = augment.add_noise(example, options.noise_sd, _stream(seed, 10))
    if options.click > 0:
        silent = example
        example = tf.cond(
            _chance(_stream(seed, 11)) < options.click,
            lambda: augment.add_click(silent, _stream(seed, 12)),
            lambda: silent,
        )
    spare = example["box_bands"] if options.frequency_masks_spare_box else None
    for mask in range(options.frequency_masks):
        stripe_seed = _stream(seed, 100 + mask)
        widest = options.frequency_mask_bands
        example = augment.mask_stripe(example, 1, widest, stripe_seed, spare)
    for mask in range(options.time_masks):
        frames = config.frontend.frames(options.time_mask_s)
        example = augment.mask_stripe(example, 0, frames, _stream(seed, 200 + mask))
    return _labelled(example, config)


def _labelled(example: dict, config: Config) -> dict:
    """What a batch takes of an example; the spectrogram [frames, bands], as models take it."""
    flat = tf.reshape(example["spectrogram"], [config.crop_frames, config.frontend.bands])
    return {name: example[name] for name in _BATCHED} | {"spectrogram": flat}


def _shifted_crop(serialized, seed, config: Config, geometry: _Geometry) -> tuple[dict, tf.Tensor]:
    """A crop at a random shift, and whether it is one of an FP row.

    The shift is in seconds for TP, in widths of the box for FP. A window that models labelled
    goes at most half way to the next one, since its labels are those of that window. Speed,
    pitch and colour vary before crops are mixed, in each by itself.
    """
    stored = parse_crop(serialized, as_stored=True)
    is_tp, is_pseudo = stored["kind"] == "tp", stored["kind"] == "pseudo"
    options, frame_s = config.augment, config.frontend.frame_s
    rate = None
    box_frames = (stored["box"][1] - stored["box"][0]) / frame_s
    if options.stretch > 0:
        # As often slower as faster.
        log_rate = tf.random.stateless_uniform([], _stream(seed, 1), -1.0, 1.0)
        rate = (1.0 + options.stretch) ** log_rate
        box_frames /= rate
    # A call longer than the crop is learned from all of its parts.
    beyond_crop = tf.maximum(box_frames - config.crop_frames, 0.0) / 2.0
    tp_reach = options.tp_shift_s / frame_s + beyond_crop
    fp_reach = options.fp_shift_boxes * box_frames
    pseudo_reach = config.pseudo_slide_cells * config.cell_s / 2.0 / frame_s
    reach = tf.where(is_pseudo, pseudo_reach, tf.where(is_tp, tp_reach, fp_reach))
    shift = tf.random.stateless_uniform([], seed, -1.0, 1.0) * reach
    example = _cut(stored, shift, config, geometry, rate)
    if options.equalizer_sd > 0:
        curve = augment.equalizer_curve(
            config.frontend.n_mels, options.equalizer_sd, _stream(seed, 2)
        )
        example = augment.change_gain(example, curve, config.frontend.compression)
    if options.band_shift > 0:
        bands = tf.random.stateless_uniform(
            [], _stream(seed, 3), -options.band_shift, options.band_shift + 1, tf.int32
        )
        example = augment.shift_bands(example, bands)
    return example, stored["kind"] == "fp"


def _augment_fp(example: dict, is_fp, options: AugmentConfig, seed) -> dict:
    if options.fp_flip > 0:
        flip = is_fp & (_chance(_stream(seed, 0)) < options.fp_flip)
        example = tf.cond(flip, lambda: augment.flip_time(example), lambda: example)
    if options.fp_cut_paste > 0:
        width = example["box_frames"][1] - example["box_frames"][0]
        uniform = tf.random.stateless_uniform([], _stream(seed, 1), -1.0, 1.0)
        # At least half a box away, or the copy would mostly cover its original.
        shift = tf.cast(tf.round((uniform + 0.5 * tf.sign(uniform)) * width), tf.int32)
        paste = is_fp & (_chance(_stream(seed, 2)) < options.fp_cut_paste)
        before = example
        example = tf.cond(paste, lambda: augment.cut_and_paste(before, shift), lambda: before)
    return example


def _stream(seed, number: int):
    return tf.random.fold_in(seed, number)


def _chance(seed):
    return tf.random.stateless_uniform([], seed)
