"""A stored piece of a recording -> a training crop [frames, mels, channels] with its labels."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from rfcx_tf.core.config import Config
from rfcx_tf.core.windows import crop_spans, lies_inside
from rfcx_tf.frontend.frontend import mel_position
from rfcx_tf.shards.augment import NO_BOX
from rfcx_tf.shards.augmentations import stream, vary
from rfcx_tf.shards.records import Manifest, parse_crop


class CropCutter:
    """Cuts training crops of a recipe out of the pieces that shards store.

    An example is what `rfcx_tf.shards.augment` describes.

    Args:
        config: the recipe.
        manifest: manifest of the shards.
    """

    def __init__(self, config: Config, manifest: Manifest) -> None:
        self._config = config
        self._species_ids = np.array([c.species_id for c in manifest.classes], np.int64)
        # The frames [classes, 2] that the windows of each class look at.
        self._spans = crop_spans(config, manifest.classes, manifest.mean_box_s)

    def centred(self, serialized) -> dict:
        """The example of a stored crop, centred on the box that it was cut for."""
        return self._cut(parse_crop(serialized, as_stored=True), 0.0)

    def varied(self, serialized, seed) -> tuple[dict, tf.Tensor]:
        """A randomly shifted example, varied by itself, and whether it is an FP row's or absent.

        The shift is in seconds for TP, in widths of the box for FP; an absent crop is its own box.
        A window that models labelled goes at most half way to the next one, since its labels are
        those of that window. An unlabelled crop shows nothing beyond where no row lies: it is not
        shifted, and only slowed.
        """
        stored = parse_crop(serialized, as_stored=True)
        is_tp, is_fp, is_pseudo, is_unlabelled = (
            stored["kind"] == kind for kind in ("tp", "fp", "pseudo", "unlabelled")
        )
        is_fp |= stored["kind"] == "absent"
        config, options = self._config, self._config.augment
        frame_s = config.frontend.frame_s
        rate = None
        box_frames = (stored["box"][1] - stored["box"][0]) / frame_s
        if options.stretch > 0:
            # As often slower as faster.
            log_rate = tf.random.stateless_uniform([], stream(seed, "stretch"), -1.0, 1.0)
            rate = (1.0 + options.stretch) ** tf.where(is_unlabelled, -tf.abs(log_rate), log_rate)
            box_frames /= rate
        # A call longer than the crop is learned from all of its parts.
        beyond_crop = tf.maximum(box_frames - config.crop_frames, 0.0) / 2.0
        tp_reach = options.tp_shift_s / frame_s + beyond_crop
        fp_reach = options.fp_shift_boxes * box_frames
        pseudo_reach = config.pseudo_slide_cells * config.cell_s / 2.0 / frame_s
        reach = tf.where(is_pseudo, pseudo_reach, tf.where(is_tp, tp_reach, fp_reach))
        reach = tf.where(is_unlabelled, 0.0, reach)
        shift = tf.random.stateless_uniform([], seed, -1.0, 1.0) * reach
        example = self._cut(stored, shift, rate)
        return vary(example, "crop", config, seed), is_fp

    def _cut(self, stored: dict, shift_frames, rate=None) -> dict:
        """Cuts a crop and labels it by all boxes in it; `rate`: played so many times as fast."""
        config, frame_s = self._config, self._config.frontend.frame_s
        length = config.crop_frames
        origin = tf.cast(stored["start_frame"], tf.float32)
        own_box = stored["box"][:2] / frame_s - origin
        boxes = stored["box_times_s"] / frame_s - origin
        piece = stored["spectrogram"]
        frames = tf.shape(piece)[0]
        if rate is not None:
            own_box, boxes = own_box / rate, boxes / rate
            frames = tf.maximum(stretched_frames(frames, rate), length)
        is_pseudo = stored["kind"] == "pseudo"
        # What models say of a window is said of the whole crop, not of one class's part of it.
        own_span = tf.where(is_pseudo, [0.0, length], self._span(stored["species_id"]))
        start = crop_start(own_box, shift_frames, own_span, length, frames)
        first = tf.cast(start, tf.float32)
        # Only what the crop shows is converted, or stretched.
        if rate is None:
            image = tf.cast(piece[start : start + length], tf.float32)
        else:
            image = stretch_time(piece, rate, start, length)
        target, known, partly = label_crop(
            boxes - first,
            stored["box_classes"],
            stored["box_present"],
            self._spans,
            tf.cast(self._of_classes(stored["complete"]), tf.float32),
        )
        soft_target, soft_known = self._soft_labels(stored)
        return {
            "spectrogram": tf.reshape(
                image, [length, config.frontend.n_mels, config.frontend.channels]
            ),
            # What people say about a class comes before what models say.
            "target": tf.where(known > 0, target, soft_target),
            "known": tf.maximum(known, soft_known),
            "partly": partly,
            "pseudo": tf.cast(is_pseudo, tf.float32),
            "box_frames": own_box - first,
            "box_bands": mel_position(config.frontend, stored["box"][2:]),
            "box_class": self._box_class(stored),
            "other_box": tf.constant(NO_BOX),
            "inside": self._inside(boxes - first, stored),
        }

    def _box_class(self, stored: dict) -> tf.Tensor:
        """Class index of the TP row that a crop was cut for, -1 for another crop: float32 []."""
        index = tf.argmax(self._species_ids == stored["species_id"], output_type=tf.int32)
        return tf.where(stored["kind"] == "tp", tf.cast(index, tf.float32), -1.0)

    def _inside(self, box_frames, stored: dict) -> tf.Tensor:
        """Whether a cell lies in a call, float32 [cells, classes]; 0 in crops of no TP row."""
        stride, classes = self._config.model.backbone.stride[0], len(self._species_ids)
        cells = math.ceil(self._config.crop_frames / stride)
        places = tf.range(cells, dtype=tf.float32)[:, tf.newaxis]
        boxes = box_frames / stride
        is_call = (stored["box_present"] == 1) & (stored["kind"] == "tp")
        covered = lies_inside(places, boxes[:, 0], boxes[:, 1]) & is_call
        inside = tf.minimum(
            tf.cast(covered, tf.float32) @ tf.one_hot(stored["box_classes"], classes), 1.0
        )
        return tf.ensure_shape(inside, [cells, classes])

    def _span(self, species_id) -> tf.Tensor:
        """The span of a species [2]; the widest one for crops that were cut for none."""
        own = tf.boolean_mask(self._spans, self._species_ids == species_id)
        widest = [self._spans[:, 0].min(), self._spans[:, 1].max()]
        return tf.concat([own, [widest]], axis=0)[0]

    def _soft_labels(self, stored: dict) -> tuple[tf.Tensor, tf.Tensor]:
        """Target and known [classes] of a pseudo-labelled crop; all unknown for another."""
        known = self._of_classes(stored["soft_known"])
        probability = self._of_classes(stored["soft_target"]) ** self._config.pseudo.power
        target = tf.where(known > 0, probability, 0.0)
        return target, tf.cast(known, tf.float32)

    def _of_classes(self, stored) -> tf.Tensor:
        """Stored values [classes]; zeros where the crop has none."""
        classes = len(self._species_ids)
        return tf.ensure_shape(tf.pad(stored, [[0, classes - tf.shape(stored)[0]]]), [classes])


def label_crop(box_frames, box_classes, box_present, spans, complete=0.0) -> tuple[tf.Tensor, ...]:
    """What the boxes say about one crop.

    A box counts when at least half of it lies in the part of the crop that the windows of its
    class cover, or when it fills at least half of that part (long calls). Present wins over
    absent: a call heard is heard, whatever another template did not find. A call of which less
    than that lies there is *partly* heard: its class is neither present nor absent. Where all calls
    of a class are marked, it is absent unless it is present or partly heard.

    Args:
        box_frames: float32 [boxes, 2], begin and end relative to the crop's first frame.
        box_classes: int64 [boxes], class index.
        box_present: int64 [boxes], 1 for TP, 0 for FP.
        spans: float32 [classes, 2], begin and end in frames of the part of a crop that the
            windows of each class cover (`crop_spans`).
        complete: float32 [classes], 1 where all calls of a class in the recording are marked.

    Returns:
        target, known, partly: float32 [classes].
    """
    span = tf.gather(spans, box_classes)
    begin = tf.maximum(box_frames[:, 0], span[:, 0])
    end = tf.minimum(box_frames[:, 1], span[:, 1])
    overlap = tf.maximum(end - begin, 0.0)
    length = tf.minimum(box_frames[:, 1] - box_frames[:, 0], span[:, 1] - span[:, 0])
    counts = overlap >= 0.5 * length
    classes = tf.shape(spans)[0]
    present = _any_of_class(box_classes, counts & (box_present == 1), classes)
    absent = _any_of_class(box_classes, counts & (box_present == 0), classes)
    absent = tf.maximum(absent, complete)
    touched = _any_of_class(box_classes, (overlap > 0) & (box_present == 1), classes)
    partly = touched * (1.0 - present)
    return present, tf.maximum(present, absent * (1.0 - partly)), partly


def _any_of_class(box_classes, chosen, classes) -> tf.Tensor:
    one_hot = tf.one_hot(box_classes, classes) * tf.cast(chosen, tf.float32)[:, None]
    return tf.reduce_max(tf.concat([one_hot, tf.zeros([1, classes])], axis=0), axis=0)


def crop_start(box_frames, shift, span, crop_frames: int, stored_frames) -> tf.Tensor:
    """Where a crop begins whose windows are centred on a box and then shifted.

    The box's centre stays in the span, so at least half of the box (or half a span of it) does
    too, and the row that the crop was drawn for keeps its label; except where the stored piece
    ends.

    Args:
        box_frames: float32 [2], begin and end of the box in frames of the stored piece.
        shift: frames, either sign.
        span: float32 [2], the part of a crop that the windows of the box's class cover.
        crop_frames: length of the crop.
        stored_frames: length of the stored piece; the crop stays inside it.

    Returns:
        int32 scalar.
    """
    box_centre = (box_frames[0] + box_frames[1]) / 2.0
    span_centre = (span[0] + span[1]) / 2.0
    # One frame less than half a span, since rounding moves the crop by up to half a frame.
    reach = tf.maximum((span[1] - span[0]) / 2.0 - 1.0, 0.0)
    begin = box_centre - span_centre + tf.clip_by_value(shift, -reach, reach)
    last = tf.cast(stored_frames - crop_frames, tf.float32)
    return tf.cast(tf.round(tf.clip_by_value(begin, 0.0, last)), tf.int32)


def stretched_frames(frames, rate) -> tf.Tensor:
    """How many frames `frames` of them become when played `rate` times as fast: int32 scalar."""
    return 1 + tf.cast(tf.cast(frames - 1, tf.float32) / rate, tf.int32)


def stretch_time(spectrogram, rate, begin, length) -> tf.Tensor:
    """A part of a spectrogram played `rate` times as fast, without change of pitch.

    Linear between frames; the last frame is repeated where there are no more.

    Args:
        spectrogram: float16 or float32 [frames, bands].
        rate: frames of the spectrogram for every frame of the result.
        begin, length: the part, in frames of the result; the whole has `stretched_frames`.

    Returns:
        float32 [length, bands].
    """
    last = tf.shape(spectrogram)[0] - 1
    position = rate * tf.cast(begin + tf.range(length), tf.float32)
    position = tf.minimum(position, tf.cast(last, tf.float32))
    below = tf.cast(position, tf.int32)
    part = (position - tf.floor(position))[:, None]
    earlier = tf.cast(tf.gather(spectrogram, below), tf.float32)
    later = tf.cast(tf.gather(spectrogram, tf.minimum(below + 1, last)), tf.float32)
    return (1.0 - part) * earlier + part * later
