"""The table of augmentations that a recipe can turn on, and their random streams.

To add one, write a function and a line in `AUGMENTATIONS`, and the setting that turns it on in
`rfcx_tf.core.config.augment`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Literal, NamedTuple

import tensorflow as tf

from rfcx_tf.core.config import Config
from rfcx_tf.shards import augment

# Random streams that have a number. Trained weights depend on the numbers, so names stay where
# they are. A name that is not here has a number by its letters.
_STREAMS = (
    # Of an example, and of the mix that it became.
    "crop fp mixup partner partner_fp mixup_weight gain_sd background background_crop "
    "background_weight noise_sd click click_frame",
    # Of a crop by itself; its shift is drawn with the crop's own seed.
    "shift stretch equalizer_sd band_shift",
    # Of a crop of an FP row.
    "fp_flip fp_paste_shift fp_cut_paste",
)
_STREAM_NUMBERS = {name: n for names in _STREAMS for n, name in enumerate(names.split())} | {
    # These are drawn from several times: each time has the next number.
    "frequency_masks": 100,
    "time_masks": 200,
}


def stream(seed, name: str, time: int = 0) -> tf.Tensor:
    """A seed of its own (int32 [2]) for what `name` draws from `seed` for the n-th time."""
    number = _STREAM_NUMBERS.get(name, zlib.crc32(name.encode()) >> 1)
    return tf.random.fold_in(seed, number + time)


def chance(seed, name: str) -> tf.Tensor:
    """A number in [0, 1) from a stream, to compare with a probability."""
    return tf.random.stateless_uniform([], stream(seed, name))


class Augmentation(NamedTuple):
    """How a recipe varies crops.

    Attributes:
        change: (example, recipe, seed) -> example; takes its seeds by name from `stream`.
        crops: which crops are varied: every `crop` by itself, before crops are mixed; those of
            `fp` rows alone; or the `mix` that the network sees.
        by_chance: whether the setting is the probability of the change. Otherwise `change` reads
            the setting, and every crop is changed.
    """

    change: Callable[[dict, Config, tf.Tensor], dict]
    crops: Literal["crop", "fp", "mix"]
    by_chance: bool = False


def vary(example: dict, crops: str, config: Config, seed, chosen=True) -> dict:
    """Applies those augmentations of some crops that the recipe turns on, in the table's order.

    Args:
        example: the example.
        crops: the crops whose augmentations are applied (see `Augmentation`).
        config: the recipe.
        seed: the stage's seed (int32 [2]); every augmentation draws from its own streams of it.
        chosen: bool scalar, whether this example is such a crop.
    """
    for key, augmentation in AUGMENTATIONS.items():
        if augmentation.crops == crops and getattr(config.augment, key) > 0:
            example = _apply(example, key, config, seed, chosen)
    return example


def _apply(example: dict, key: str, config: Config, seed, chosen) -> dict:
    change, _, by_chance = AUGMENTATIONS[key]
    if by_chance:
        chosen &= chance(seed, key) < getattr(config.augment, key)
    if chosen is True:
        return change(example, config, seed)
    return tf.cond(chosen, lambda: change(example, config, seed), lambda: example)


def _equalize(example: dict, config: Config, seed) -> dict:
    curve = augment.equalizer_curve(
        config.frontend.n_mels, config.augment.equalizer_sd, stream(seed, "equalizer_sd")
    )
    return augment.change_gain(example, curve, config.frontend.compression)


def _shift_bands(example: dict, config: Config, seed) -> dict:
    most = config.augment.band_shift
    seed = stream(seed, "band_shift")
    return augment.shift_bands(
        example, tf.random.stateless_uniform([], seed, -most, most + 1, tf.int32)
    )


def _cut_and_paste(example: dict, config: Config, seed) -> dict:
    width = example["box_frames"][1] - example["box_frames"][0]
    uniform = tf.random.stateless_uniform([], stream(seed, "fp_paste_shift"), -1.0, 1.0)
    # At least half a box away, or the copy would mostly cover its original.
    shift = tf.cast(tf.round((uniform + 0.5 * tf.sign(uniform)) * width), tf.int32)
    return augment.cut_and_paste(example, shift)


def _change_gain(example: dict, config: Config, seed) -> dict:
    normal = tf.random.stateless_normal([], stream(seed, "gain_sd"))
    return augment.change_gain(
        example, config.augment.gain_sd * normal, config.frontend.compression
    )


def _mask_bands(example: dict, config: Config, seed) -> dict:
    options = config.augment
    spare = None
    if options.frequency_masks_spare_box:
        low, high = tf.unstack(example["box_bands"])
        spare = tf.stack([tf.floor(low), tf.math.ceil(high)])
    for time in range(options.frequency_masks):
        mask_seed = stream(seed, "frequency_masks", time)
        example = augment.mask_stripe(example, 1, options.frequency_mask_bands, mask_seed, spare)
    return example


def _mask_frames(example: dict, config: Config, seed) -> dict:
    widest = config.frontend.frames(config.augment.time_mask_s)
    for time in range(config.augment.time_masks):
        example = augment.mask_stripe(example, 0, widest, stream(seed, "time_masks", time))
    return example


# The setting under `augment:` that turns one on, and what it does; applied in this order.
AUGMENTATIONS = {
    "equalizer_sd": Augmentation(_equalize, "crop"),
    "band_shift": Augmentation(_shift_bands, "crop"),
    "fp_flip": Augmentation(lambda example, *_: augment.flip_time(example), "fp", by_chance=True),
    "fp_cut_paste": Augmentation(_cut_and_paste, "fp", by_chance=True),
    "gain_sd": Augmentation(_change_gain, "mix"),
    "noise_sd": Augmentation(
        lambda e, c, seed: augment.add_noise(e, c.augment.noise_sd, stream(seed, "noise_sd")), "mix"
    ),
    "click": Augmentation(
        lambda e, _, seed: augment.add_click(e, stream(seed, "click_frame")), "mix", by_chance=True
    ),
    "frequency_masks": Augmentation(_mask_bands, "mix"),
    "time_masks": Augmentation(_mask_frames, "mix"),
}
