"""Shards to batches: drawn evenly, cropped, labelled, augmented, by tf.data.

A batch is a dict: spectrogram [batch, frames, bands]; target, known and partly [batch, classes],
and inside [batch, cells, classes] (see `rfcx_tf.shards.augment`); boxes [batch, 2, 5], its own and
the other one of a mix (see `own_box`); and pseudo [batch], 1 for crops that models labelled and 0
for others; all float32.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from rfcx_tf.core.config import Config
from rfcx_tf.core.errors import UserError
from rfcx_tf.shards.augment import beta_weight, lay_under, mixup, own_box
from rfcx_tf.shards.augmentations import chance, stream, vary
from rfcx_tf.shards.cut import CropCutter
from rfcx_tf.shards.records import NO_FOLD, ShardReader
from rfcx_tf.shards.sampler import (
    BalancedSampler,
    PseudoSampler,
    WeightedSampler,
    is_mixed_with_window,
    split_draw,
)

LABELS = ("target", "known", "partly", "pseudo", "boxes", "inside")
# No Python branch here goes by a tensor, so there is nothing for AutoGraph to rewrite, which would
# take seconds before the first batch.
_as_written = tf.autograph.experimental.do_not_convert


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
            very rows that would be drawn without. `pseudo.mixup_into_rows` mixes such crops into
            them.
        share: which of how many equal parts of every batch, as for one of several workers; only
            these examples are made.

    Raises:
        UserError: if background or pseudo-labelled crops are asked for and there are none, or
            shards are damaged.
    """
    reader.check(reader.rows(folds))
    sampler = _sampler(reader, config, folds)
    cutter = CropCutter(config, reader.manifest)
    seed = config.seed
    unmarked = reader.rows(folds, "unlabelled", "absent")
    if config.augment.background > 0 and len(unmarked) == 0:
        raise UserError(
            f"augment.background needs shards with unlabelled crops. {reader.folder} has none "
            "in these folds. Make them with crops.unlabelled_per_recording above 0."
        )
    pseudo_fraction, into_rows, pseudo_sampler = 0.0, 0.0, None
    if pseudo is not None:
        pseudo_fraction, into_rows = config.pseudo.fraction, config.pseudo.mixup_into_rows
        pseudo.check(pseudo_rows(pseudo, folds))
        pseudo_sampler = _pseudo_sampler(pseudo, config, folds, cutter)

    @_as_written
    def read(numbers):
        def crops_of(number: int) -> tuple[list[bytes], bool]:
            is_pseudo, own_number = split_draw(number, pseudo_fraction)
            source, draws = (pseudo, pseudo_sampler) if is_pseudo else (reader, sampler)
            row, partner = draws.draw(own_number)
            is_into_row = not is_pseudo and is_mixed_with_window(number, into_rows, seed)
            if is_into_row:
                crops = [source[row], pseudo[pseudo_sampler.draw_into_row(number)]]
            else:
                crops = [source[row], source[partner]]
            if config.augment.background > 0:
                crops.append(reader[sampler.draw_background(number, unmarked)])
            return crops, is_into_row

        def draw(numbers):
            crops, are_into_rows = zip(*(crops_of(int(n)) for n in numbers), strict=True)
            return np.array(crops, dtype=object), np.array(are_into_rows)

        crops, are_into_rows = tf.numpy_function(draw, [numbers], [tf.string, tf.bool])
        crops.set_shape([None, None])
        are_into_rows.set_shape([None])
        return numbers, crops, are_into_rows

    @_as_written
    def make(number, crops, is_into_row):
        # A draw number can pass 2**31, a seed is two int32.
        low = tf.cast(tf.bitwise.bitwise_and(number, 0x7FFFFFFF), tf.int32)
        high = tf.cast(tf.bitwise.right_shift(number, 31), tf.int32)
        key = tf.random.fold_in(tf.stack([tf.constant(seed, tf.int32), high]), low)
        return _training_example(crops, is_into_row, key, config, cutter)

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
    """The crops of the given rows once, in order, centred on their boxes, not augmented.

    Raises:
        UserError: if shards are damaged.
    """
    reader.check(rows)
    cutter = CropCutter(config, reader.manifest)

    @_as_written
    def read(row):
        serialized = tf.numpy_function(lambda r: reader[r], [row], tf.string)
        serialized.set_shape([])
        return serialized

    @_as_written
    def make(serialized):
        return _for_batch(cutter.centred(serialized), config)

    dataset = tf.data.Dataset.from_tensor_slices(np.asarray(rows, np.int64))
    dataset = dataset.map(read, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.map(make, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.batch(batch_size or config.training.batch_size).prefetch(tf.data.AUTOTUNE)


def _sampler(reader: ShardReader, config: Config, folds: list[int]) -> BalancedSampler:
    species = reader.index["species_id"].to_numpy()
    # Absent crops have the species -1, and so are drawn, and mixed, as those of one class more.
    tp_rows, fp_rows = reader.rows(folds, "tp"), reader.rows(folds, "fp", "absent")
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


def _pseudo_sampler(
    pseudo: ShardReader, config: Config, folds: list[int], cutter: CropCutter
) -> PseudoSampler | WeightedSampler:
    rows = pseudo_rows(pseudo, folds)
    if len(rows) == 0:
        raise UserError(
            "Pseudo-labelled shards must hold crops of the folds that are trained on "
            f"({', '.join(map(str, folds))}). {pseudo.folder} holds none. Label recordings of "
            "these folds, or train without."
        )
    if config.pseudo.draw == "label_sum":
        sums = _label_sums(pseudo, rows, cutter)
        if not sums.any():
            raise UserError(
                "pseudo.draw label_sum needs windows with a target above 0. "
                f"{pseudo.folder} holds none for these folds. Set pseudo.draw to even."
            )
        return WeightedSampler(rows, sums, seed=config.seed)
    species = pseudo.index["species_id"].to_numpy()[rows]
    groups = species if config.pseudo.balance_classes else np.zeros_like(species)
    return PseudoSampler(rows, groups, seed=config.seed)


def _label_sums(pseudo: ShardReader, rows: np.ndarray, cutter: CropCutter) -> np.ndarray:
    """Sum of the targets of some pseudo-labelled crops over the classes, float32 [rows]."""

    @_as_written
    def sum_of(serialized):
        return tf.reduce_sum(cutter.centred(serialized)["target"])

    dataset = tf.data.Dataset.from_generator(
        lambda: (pseudo[row] for row in rows), output_signature=tf.TensorSpec([], tf.string)
    )
    dataset = dataset.map(sum_of, num_parallel_calls=tf.data.AUTOTUNE).batch(4096)
    return np.concatenate([*dataset.as_numpy_iterator()])


def _training_example(crops, is_into_row, seed, config: Config, cutter: CropCutter) -> dict:
    """One example from the serialised crop, its partner in a mix, and perhaps background.

    Where `is_into_row`, the partner is a pseudo-labelled crop, and is mixed in.
    """
    options = config.augment
    example, is_fp = cutter.varied(crops[0], stream(seed, "crop"))
    example = vary(example, "fp", config, stream(seed, "fp"), is_fp)
    of_rows = tf.where(is_fp, options.fp_mixup, options.tp_mixup)
    probability = tf.where(example["pseudo"] > 0, config.pseudo.mixup, of_rows)
    probability = tf.where(is_into_row, 1.0, probability)
    # The front end takes the log of magnitudes or of powers.
    power_of_log = (
        2.0 / config.frontend.magnitude_power if options.mixup_domain == "power" else None
    )
    of_windows = max(config.pseudo.mixup, config.pseudo.mixup_into_rows)
    if max(options.tp_mixup, options.fp_mixup, of_windows) > 0:

        def mixed():
            other, _ = cutter.varied(crops[1], stream(seed, "partner"))
            varied_as_fp = is_fp & ~is_into_row
            other = vary(other, "fp", config, stream(seed, "partner_fp"), varied_as_fp)
            weight = beta_weight(options.mixup_alpha, stream(seed, "mixup_weight"))
            return mixup(example, other, weight, options.mixup_labels, power_of_log)

        example = tf.cond(chance(seed, "mixup") < probability, mixed, lambda: example)
    if options.background > 0:
        unmixed = example

        def over_background():
            below, _ = cutter.varied(crops[2], stream(seed, "background_crop"))
            weight = beta_weight(options.mixup_alpha, stream(seed, "background_weight"))
            return lay_under(unmixed, below, weight, power_of_log)

        # Over sound in which nobody looked for its species, a crop of an FP row would know nothing.
        # What is mixed with a window that models labelled lies over other sound already.
        chosen = (chance(seed, "background") < options.background) & ~is_fp & ~is_into_row
        example = tf.cond(chosen, over_background, lambda: unmixed)
    return _for_batch(vary(example, "mix", config, seed), config)


def _for_batch(example: dict, config: Config) -> dict:
    """What a batch takes of an example; the spectrogram [frames, bands], as models take it."""
    flat = tf.reshape(example["spectrogram"], [config.crop_frames, config.frontend.bands])
    boxes = tf.stack([own_box(example), example["other_box"]])
    batched = example | {"spectrogram": flat, "boxes": boxes}
    return {name: batched[name] for name in ("spectrogram", *LABELS)}
