"""Operations of augmentation: example -> example, each with the rule for its labels.

An example is a dict of float32 tensors:

    spectrogram [frames, mels, channels], the channels being those of the front end
    target, known, partly [classes], see below
    pseudo []         1 if models labelled it, 0 if people did
    box_frames [2]    begin and end, in frames of the spectrogram, of the box it was cut for
    box_bands [2]     its lowest and highest position on the mel axis, in bands
    box_class []      its class index; -1 unless it is that of a TP row
    other_box [5]     that of the other crop in a mix (see `own_box`), or NO_BOX
    inside [cells, classes]  1 where a cell of the network lies in a call

A class is *present* where known and target are 1, *absent* where known is 1 and target 0, *unknown*
where known is 0; target is 0 there. Where partly is 1, less than half of a call lies in the crop:
not known, and not even weakly absent as others that are unknown may be. Models give soft targets,
the probability that the class is present, which counts as rather present from one half on. Of an
unknown class the target is not 0 in one case, see `mixup`.

Every operation is a pure function: what is random comes in as an argument or as a stateless seed
(int32 [2]), so the same call gives the same example, inside a tf.data graph or outside.

`rfcx_tf.shards.augmentations` has the table of those that a recipe can turn on.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from rfcx_tf.core.config import COMPRESSIONS

# Instead of a box, where there is none.
NO_BOX = (-1.0, 0.0, 0.0, 0.0, 0.0)
# Of a random equaliser, over the whole mel axis.
_EQUALIZER_POINTS = 6
# From this target on a class is more likely present than not.
_RATHER_PRESENT = 0.5


def flip_time(example: dict) -> dict:
    """Reverses a crop in time. Labels stay.

    That holds as long as no species' call is another's backwards; where some are (a rising and
    a falling whistle), `augment.fp_flip` must be 0.
    """
    frames = tf.cast(tf.shape(example["spectrogram"])[0], tf.float32)
    return example | {
        "spectrogram": tf.reverse(example["spectrogram"], [0]),
        "box_frames": frames - tf.reverse(example["box_frames"], [0]),
    }


def cut_and_paste(example: dict, shift) -> dict:
    """Pastes a copy of the box's frames, shifted by `shift` frames, over the crop.

    The louder of the two sounds is kept in every value, as in a mixture of both, so nothing
    that was present disappears; and nothing is pasted that was not in the crop. Labels stay.
    """
    spectrogram = example["spectrogram"]
    frames = tf.shape(spectrogram)[0]
    target = tf.range(frames)
    source = target - shift
    begin = tf.cast(tf.floor(example["box_frames"][0]), tf.int32)
    end = tf.cast(tf.math.ceil(example["box_frames"][1]), tf.int32)
    from_box = (source >= tf.maximum(begin, 0)) & (source < tf.minimum(end, frames))
    copy = tf.gather(spectrogram, tf.clip_by_value(source, 0, frames - 1))
    pasted = tf.where(from_box[:, None, None], tf.maximum(spectrogram, copy), spectrogram)
    return example | {"spectrogram": pasted}


def mixup(
    example: dict, partner: dict, weight, labels: str = "union", power_of_log: float | None = None
) -> dict:
    """Weighted sum of two crops (Zhang et al. 2018) with three-valued labels.

    A class is present if it is in either crop, absent only where both crops are known not to
    hold it, otherwise unknown; partly heard if it is that in either crop and not known. With soft
    targets a and b: it is in either crop with probability 1 - (1 - a)(1 - b), and known if both
    crops know it, or the one that does holds it rather than not.

    A mix of a crop of people with one of models is as one of people: what people left unknown may
    count as weakly absent. Of such a class the models' target b stays, for it may well be in their
    crop: absent in the one and b in the other is b. What models left unknown, and is not known to
    be present in the crop of people, weighs nothing, as what is partly heard.

    Args:
        example, partner: two examples of the same shapes.
        weight: share of `example` in the mix, in [0, 1]; `partner` has the rest.
        labels: `union`: present targets are those of the crops, whatever the weight.
            `weighted`: they are the weighted sum of both (an unknown one counts as 0).
        power_of_log: see `add_sounds`.

    Returns:
        The mix; its own box is that of `example`, the other one that of `partner`.
    """
    sound = add_sounds(example["spectrogram"], partner["spectrogram"], weight, power_of_log)
    own, other = example["target"], partner["target"]
    if labels == "weighted":
        target = weight * own + (1.0 - weight) * other
    else:
        target = 1.0 - (1.0 - own) * (1.0 - other)
    present = tf.cast(tf.maximum(own, other) >= _RATHER_PRESENT, tf.float32)
    known = tf.maximum(present, example["known"] * partner["known"])
    partly = tf.maximum(example["partly"], partner["partly"])
    with_models = partner["pseudo"] * (1.0 - example["pseudo"])
    partly = tf.maximum(partly, with_models * (1.0 - partner["known"])) * (1.0 - known)
    target *= tf.maximum(known, with_models * partner["known"] * (1.0 - example["known"]))
    labels = {"target": target, "known": known, "partly": partly}
    boxes = {
        "other_box": own_box(partner),
        "inside": tf.maximum(example["inside"], partner["inside"]),
    }
    return example | {"spectrogram": sound} | labels | boxes


def own_box(example: dict) -> tf.Tensor:
    """The box that a crop was cut for: class, begin, end, lowest and highest band: float32 [5]."""
    return tf.concat([[example["box_class"]], example["box_frames"], example["box_bands"]], axis=0)


def add_sounds(spectrogram, other, weight, power_of_log: float | None = None) -> tf.Tensor:
    """Two sounds at once, `weight` of the first and the rest of the second.

    Args:
        spectrogram, other: two spectrograms of the same shape.
        weight: share of the first, in [0, 1].
        power_of_log: None: the weighted mean of the values. For a log spectrogram that is a
            geometric mean, in which each sound has only a part of its decibels above the
            background. A number p: values are v = log(s) with power s**p, and power adds, as
            that of independent sounds does: log(weight exp(p v) + ...) / p.
    """
    if power_of_log is None:
        return weight * spectrogram + (1.0 - weight) * other
    shares = tf.math.log(tf.maximum(tf.stack([weight, 1.0 - weight]), 1e-12))
    first = power_of_log * spectrogram + shares[0]
    second = power_of_log * other + shares[1]
    louder = tf.maximum(first, second)
    # log(exp(a) + exp(b)) = max(a, b) + log(1 + exp(-|a - b|)), which cannot overflow.
    return (louder + tf.math.log1p(tf.exp(-tf.abs(first - second)))) / power_of_log


def change_gain(example: dict, log_gain, compression: str) -> dict:
    """Makes a crop louder or quieter by a factor exp(log_gain). Labels stay.

    The factor applies to the values of a PCEN spectrogram, which hardly depend on the gain of
    the recording, and to what the logarithm is taken of (magnitudes or powers) under a `log`
    one; with `pcen_log`, to each channel as to its own kind.

    Args:
        example: the example.
        log_gain: scalar, or [mels, 1] for a gain of every mel band.
        compression: the front end's `compression`.
    """
    spectrogram = example["spectrogram"]
    kinds = COMPRESSIONS[compression]
    louder = [
        channel + log_gain if kind == "log" else channel * tf.exp(log_gain)
        for kind, channel in zip(kinds, tf.split(spectrogram, len(kinds), axis=-1), strict=True)
    ]
    return example | {"spectrogram": tf.concat(louder, axis=-1)}


def equalizer_curve(mels: int, deviation: float, seed) -> tf.Tensor:
    """A random smooth log gain over the mel axis [mels, 1], for `change_gain`.

    Normal at evenly spaced points, straight lines between them: another microphone, distance
    or vegetation (FilterAugment, Nam et al. 2022).
    """
    gains = deviation * tf.random.stateless_normal([_EQUALIZER_POINTS], seed)
    position = np.linspace(0.0, _EQUALIZER_POINTS - 1.0, mels)[:, None]
    nearness = np.maximum(0.0, 1.0 - np.abs(position - np.arange(_EQUALIZER_POINTS)))
    return tf.linalg.matvec(nearness.astype(np.float32), gains)[:, None]


def shift_bands(example: dict, bands) -> dict:
    """Moves a crop up by `bands` mel bands (down if negative). Labels stay.

    The outermost band is repeated where nothing is left to move in.
    """
    spectrogram = example["spectrogram"]
    mels = tf.shape(spectrogram)[1]
    up, down = tf.clip_by_value(bands, 0, mels), tf.clip_by_value(-bands, 0, mels)
    # Copies of whole stretches; a gather of single bands takes several times as long.
    below = tf.tile(spectrogram[:, :1], [1, up, 1])
    above = tf.tile(spectrogram[:, -1:], [1, down, 1])
    shifted = tf.concat([below, spectrogram[:, down : mels - up], above], axis=1)
    return example | {
        "spectrogram": tf.ensure_shape(shifted, spectrogram.shape),
        "box_bands": example["box_bands"] + tf.cast(bands, tf.float32),
    }


def lay_under(example: dict, background: dict, weight, power_of_log: float | None = None) -> dict:
    """Mixes a crop with sound that nobody marked, `weight` of the crop and the rest of that.

    What is present stays present (of soft targets, what is so rather than not). What was absent
    becomes unknown where nobody looked for it in the other sound, and stays absent where that is
    known not to hold it. What calls in the other sound is partly heard. `power_of_log` is that of
    `add_sounds`.
    """
    sound = add_sounds(example["spectrogram"], background["spectrogram"], weight, power_of_log)
    target = example["target"]
    # Of hard labels, one below one half is the smaller share of a weighted mix: present too.
    present = tf.where(example["pseudo"] > 0, target >= _RATHER_PRESENT, target > 0)
    absent_below = background["known"] * (1.0 - background["target"])
    known = example["known"] * tf.maximum(tf.cast(present, tf.float32), absent_below)
    heard_below = tf.maximum(background["partly"], background["known"] * background["target"])
    partly = tf.maximum(example["partly"], heard_below) * (1.0 - known)
    labels = {"target": target * known, "known": known, "partly": partly}
    return example | {"spectrogram": sound} | labels


def add_noise(example: dict, deviations: float, seed) -> dict:
    """Adds white noise of so many standard deviations of the crop. Labels stay.

    PCEN divides every band by its own level, so steady noise of any colour comes out of it
    nearly white: this stands for pink noise or rain in the recording as well. All channels get
    the same noise, since they show one sound, each in its own standard deviations.
    """
    spectrogram = example["spectrogram"]
    frames, mels = tf.unstack(tf.shape(spectrogram)[:2])
    noise = tf.random.stateless_normal([frames, mels, 1], seed)
    deviation = tf.math.reduce_std(spectrogram, axis=[0, 1], keepdims=True)
    noisy = spectrogram + deviations * deviation * noise
    return example | {"spectrogram": noisy}


def add_click(example: dict, seed) -> dict:
    """Makes one random frame as loud in all bands as the crop's loudest cell. Labels stay.

    Every channel has its own loudest cell.
    """
    spectrogram = example["spectrogram"]
    frames = tf.shape(spectrogram)[0]
    where = tf.random.stateless_uniform([], seed, 0, frames, tf.int32)
    click = (tf.range(frames) == where)[:, None, None]
    loudest = tf.reduce_max(spectrogram, axis=[0, 1], keepdims=True)
    return example | {"spectrogram": tf.where(click, loudest, spectrogram)}


def mask_stripe(example: dict, axis: int, widest: int, seed, spare_bands=None) -> dict:
    """Sets one random stripe of frames (axis 0) or mel bands (axis 1) to the crop's mean.

    The stripe is the same in all channels, the mean each one's own. Labels stay (SpecAugment,
    Park et al. 2019).

    Args:
        example: the example.
        axis: 0 for a stripe in time, 1 for one in frequency.
        widest: largest width of the stripe, in frames or bands; the width is uniform.
        seed: int32 [2].
        spare_bands: [2], first and last mel band that are left alone, or None.
    """
    spectrogram = example["spectrogram"]
    size = tf.shape(spectrogram)[axis]
    seeds = tf.random.split(seed, 2)
    width = tf.random.stateless_uniform([], seeds[0], 0, widest + 1, tf.int32)
    begin = tf.random.stateless_uniform([], seeds[1], 0, size, tf.int32)
    position = tf.range(size)
    stripe = (position >= begin) & (position < begin + width)
    stripe = stripe[:, None, None] if axis == 0 else stripe[None, :, None]
    if spare_bands is not None:
        band = tf.range(tf.shape(spectrogram)[1], dtype=tf.float32)
        stripe &= ((band < spare_bands[0]) | (band > spare_bands[1]))[None, :, None]
    mean = tf.reduce_mean(spectrogram, axis=[0, 1], keepdims=True)
    masked = tf.where(stripe, mean, spectrogram)
    return example | {"spectrogram": masked}


def beta_weight(alpha: float, seed) -> tf.Tensor:
    """A mixing weight of at least one half: the larger of x and 1 - x, x ~ Beta(alpha, alpha)."""
    seeds = tf.random.split(seed, 2)
    # Two gamma variates; the floor keeps the ratio defined when both underflow.
    gammas = [tf.random.stateless_gamma([], s, alpha) + 1e-30 for s in tf.unstack(seeds)]
    weight = gammas[0] / (gammas[0] + gammas[1])
    return tf.maximum(weight, 1.0 - weight)
