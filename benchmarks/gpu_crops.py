"""Draw numbers -> what a training example is made of, as arrays; NumPy only.

The draws are those of `BalancedSampler`; crops are placed, labelled and mixed by the rules of
`rfcx_tf.shards`, whose pipeline is TensorFlow's. What is drawn here is applied to the spectrograms
on the device (`benchmarks.gpu_trials`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rfcx_tf.core.config import Config
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.core.windows import crop_spans
from rfcx_tf.frontend.frontend import mel_band_centres_hz
from rfcx_tf.shards.sampler import BalancedSampler

EQUALIZER_POINTS = 6
_PART = 8192


@dataclass(frozen=True)
class Sound:
    """What `benchmarks/gpu.py pack` keeps of a data set.

    Attributes:
        spectrograms: uint8 [all frames, bands], recording after recording; values are
            low + step * byte.
        first_frame, frames: of every recording.
        folds: of every recording.
        truth: bool [recordings, classes], for scoring alone.
        classes, mean_box_s: as `build_detector` takes them.
        recording, species, present, boxes: of every row: number of its recording, class index,
            TP or FP, and t_min, t_max (s), f_min, f_max (Hz).
    """

    spectrograms: np.ndarray
    low: float
    step: float
    first_frame: np.ndarray
    frames: np.ndarray
    folds: np.ndarray
    truth: np.ndarray
    classes: list[SpeciesClass]
    mean_box_s: dict[int, float]
    recording: np.ndarray
    species: np.ndarray
    present: np.ndarray
    boxes: np.ndarray


def read_sound(path: Path) -> Sound:
    """Reads `sound.npz`."""
    with np.load(path) as found:
        values = dict(found)
    ids = values["species_ids"].tolist()
    ends = np.cumsum(values["frames"])
    return Sound(
        spectrograms=values["spectrograms"],
        low=float(values["low"]),
        step=float(values["step"]),
        first_frame=ends - values["frames"],
        frames=values["frames"],
        folds=values["folds"],
        truth=values["truth"].astype(bool),
        classes=[SpeciesClass(*pair) for pair in zip(ids, values["species"].tolist(), strict=True)],
        mean_box_s=dict(zip(ids, values["mean_box_s"].tolist(), strict=True)),
        recording=values["row_recordings"],
        species=values["row_classes"],
        present=values["row_present"],
        boxes=values["row_boxes"],
    )


def draw_training(path: Path, config: Config, fold: int, seed: int) -> dict:
    """All examples of a training; what other processes do."""
    training = config.training
    count = training.epochs * training.steps_per_epoch * training.batch_size
    return draw_examples(read_sound(path), config, fold, seed, count)


def draw_examples(sound: Sound, config: Config, fold: int, seed: int, count: int) -> dict:
    """The first examples of a training that holds out a fold.

    Returns:
        Arrays of `count` examples. Of their two crops, own and partner [count, 2]: `begin` and
        `part`, the place of the first frame in `Sound.spectrograms` and how far behind it the
        crop begins, `last`, that of the last one that the crop may show, and `rate`, frames of
        the recording for one of the crop; `gains`
        [count, 2, 6], of the equaliser; `shift`, bands up; `flip`, whether it is reversed;
        `paste` [count, 2, 3], begin and end of the frames that are pasted and how much later (0:
        nothing is pasted). Of the mix: `weight` of the own crop (1: no mix), `masks`
        [count, masks, 2], first band and width, `spared` [count, 2], the bands left alone.
        Labels [count, classes]: `target`, `known` and `partly`.
    """
    pairs = _rows(sound, config, fold, seed, count)
    # In parts, for the memory that the boxes of all crops take.
    parts = [
        _examples(sound, config, pairs[first : first + _PART], [seed, fold, first])
        for first in range(0, count, _PART)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _examples(sound: Sound, config: Config, pairs: np.ndarray, key: list[int]) -> dict:
    options, count = config.augment, len(pairs)
    random = np.random.default_rng(key)
    is_fp = ~sound.present[pairs[:, 0]]
    crops = [_crops(sound, config, pairs[:, side], random) for side in range(2)]
    mixed = random.random(count) < np.where(is_fp, options.fp_mixup, options.tp_mixup)
    share = random.beta(options.mixup_alpha, options.mixup_alpha, count)
    weight = np.where(mixed, np.maximum(share, 1.0 - share), 1.0)
    own, other = (crop.pop("labels") for crop in crops)
    target, known, partly = _mixed_labels(own, other, mixed[:, None])
    spared = crops[0].pop("bands")
    crops[1].pop("bands")
    masks = random.integers(
        0,
        [config.frontend.n_mels, options.frequency_mask_bands + 1],
        (count, options.frequency_masks, 2),
    )
    examples = {name: np.stack([c[name] for c in crops], 1) for name in crops[0]}
    return examples | {
        "weight": weight.astype(np.float32),
        "masks": masks.astype(np.int32),
        "spared": spared.astype(np.int32),
        "target": target.astype(np.float32),
        "known": known.astype(np.float32),
        "partly": partly.astype(np.float32),
    }


def _rows(sound: Sound, config: Config, fold: int, seed: int, count: int) -> np.ndarray:
    """Rows of the own crops and of their partners: int [count, 2]."""
    trained = sound.folds[sound.recording] != fold
    tp, fp = (np.flatnonzero(trained & (sound.present == kind)) for kind in (True, False))
    sampler = BalancedSampler(
        tp,
        sound.species[tp],
        fp,
        sound.species[fp],
        tp_fraction=config.dataset.tp_fraction,
        balance_classes=config.dataset.balance_classes,
        seed=seed,
    )
    return np.array([sampler.draw(number) for number in range(count)])


def _crops(sound: Sound, config: Config, rows: np.ndarray, random: np.random.Generator) -> dict:
    """Where crops of rows lie, how they are varied, and their labels."""
    options, length = config.augment, config.crop_frames
    frame_s, count = config.frontend.frame_s, len(rows)
    recording, box = sound.recording[rows], sound.boxes[rows]
    is_fp = ~sound.present[rows]
    # As pieces are stored, around the box; the crop stays inside.
    frames = sound.frames[recording]
    stored = np.minimum(config.stored_frames, frames)
    middle = np.round(box[:, :2].mean(1) / frame_s - config.stored_frames / 2)
    origin = np.clip(middle, 0, np.maximum(frames - config.stored_frames, 0)).astype(int)

    rate = (1.0 + options.stretch) ** random.uniform(-1.0, 1.0, count)
    begin, end = ((box[:, edge] / frame_s - origin) / rate for edge in (0, 1))
    width = end - begin
    reach = np.where(
        is_fp,
        options.fp_shift_boxes * width,
        options.tp_shift_s / frame_s + np.maximum(width - length, 0.0) / 2.0,
    )
    spans = crop_spans(config, sound.classes, sound.mean_box_s)
    span = spans[sound.species[rows]]
    most = np.maximum((span[:, 1] - span[:, 0]) / 2.0 - 1.0, 0.0)
    shift = np.clip(random.uniform(-1.0, 1.0, count) * reach, -most, most)
    room = np.maximum(1 + ((stored - 1) / rate).astype(int), length) - length
    start = np.round(np.clip((begin + end) / 2 - span.mean(1) + shift, 0.0, room))
    begin, end = begin - start, end - start

    flip = is_fp & (random.random(count) < options.fp_flip)
    begin, end = np.where(flip, length - end, begin), np.where(flip, length - begin, end)
    pasted = is_fp & (random.random(count) < options.fp_cut_paste)
    later = random.uniform(-1.0, 1.0, count)
    later = np.round((later + 0.5 * np.sign(later)) * width)
    paste = [np.maximum(np.floor(begin), 0), np.minimum(np.ceil(end), length), later * pasted]
    bands = random.integers(-options.band_shift, options.band_shift + 1, count)
    centres = mel_band_centres_hz(config.frontend)
    begins = rate * start
    return {
        "begin": (sound.first_frame[recording] + origin + np.floor(begins)).astype(np.int32),
        "part": (begins % 1.0).astype(np.float32),
        "last": (sound.first_frame[recording] + origin + stored - 1).astype(np.int32),
        "rate": rate.astype(np.float32),
        "gains": (options.equalizer_sd * random.standard_normal((count, EQUALIZER_POINTS))).astype(
            np.float32
        ),
        "shift": bands.astype(np.int32),
        "flip": flip,
        "paste": np.stack(paste, 1).astype(np.int32),
        "bands": np.stack(
            [
                np.searchsorted(centres, box[:, 2], "right") - 1 + bands,
                np.searchsorted(centres, box[:, 3], "left") + bands,
            ],
            1,
        ),
        "labels": _labels(sound, recording, (origin + begins) * frame_s, rate * frame_s, spans),
    }


def _labels(sound: Sound, recording, first_s, frame_s, spans) -> tuple[np.ndarray, ...]:
    """`label_crop` of many crops: present, absent, and partly heard; bool [crops, classes].

    Args:
        recording: of every crop.
        first_s: where it begins in the recording.
        frame_s: seconds of the recording for one of its frames.
        spans: [classes, 2], the frames that count.
    """
    order = np.argsort(sound.recording, kind="stable")
    numbers = np.bincount(sound.recording, minlength=len(sound.frames))
    most, first = numbers.max(), np.cumsum(numbers) - numbers
    places = first[recording][:, None] + np.arange(most)
    there = np.arange(most) < numbers[recording][:, None]
    rows = order[np.minimum(places, len(order) - 1)]
    boxes = (sound.boxes[rows, :2] - first_s[:, None, None]) / frame_s[:, None, None]
    classes, span = sound.species[rows], spans[sound.species[rows]]
    overlap = np.minimum(boxes[..., 1], span[..., 1]) - np.maximum(boxes[..., 0], span[..., 0])
    shorter = np.minimum(boxes[..., 1] - boxes[..., 0], span[..., 1] - span[..., 0])
    touches = there & (overlap > 0)
    counts = there & (np.maximum(overlap, 0.0) >= 0.5 * shorter)
    found = []
    for chosen in (
        counts & sound.present[rows],
        counts & ~sound.present[rows],
        touches & sound.present[rows],
    ):
        label = np.zeros((len(recording), len(spans)), bool)
        crop, row = np.nonzero(chosen)
        label[crop, classes[crop, row]] = True
        found.append(label)
    present, absent, touched = found
    return present, absent, touched & ~present


def _mixed_labels(own, other, mixed) -> tuple[np.ndarray, ...]:
    """target, known, partly of examples; union of labels where crops are mixed."""
    present, absent, partly = own
    other_present, other_absent, other_partly = other
    known = present | (absent & ~partly)
    other_known = other_present | (other_absent & ~other_partly)
    target = present | (other_present & mixed)
    known = target | (known & np.where(mixed, other_known, True))
    return target, known, (partly | (other_partly & mixed)) & ~known
