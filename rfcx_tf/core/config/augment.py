"""How training crops are varied: the section `augment`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rfcx_tf.core.config.section import (
    ConfigSection,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Probability,
)


class AugmentConfig(ConfigSection):
    """How training crops are varied. The write-up's are those in the time direction; 0 is off.

    Attributes:
        tp_shift_s: a TP crop is moved by up to this many seconds either way.
        fp_shift_boxes: an FP crop is moved by up to this many widths of its box.
        fp_flip: probability that an FP crop is reversed in time; 0 where a species' call is
            another's backwards.
        fp_cut_paste: probability that an FP box is pasted a second time, shifted.
        fp_mixup: probability that an FP crop is mixed with another FP crop of its class.
        tp_mixup: probability that a TP crop is mixed with any other TP crop.
        mixup_alpha: the first crop of a mix weighs the larger of x and 1 - x, where x is drawn
            from Beta(alpha, alpha). A small alpha gives mixes in which the second crop, whose
            labels count too, can hardly be heard.
        mixup_labels: `union` for labels that do not depend on the weight, `weighted` for
            targets in proportion to it.
        mixup_domain: `spectrogram` mixes the compressed values; `power`, for log-mel only, adds
            the power of both sounds, as in air: the weights are shares of power.
        feature_mixup: probability that the features which enter the head's dense layers are
            mixed with those of another crop of the batch (manifold mixup), weighted by
            `mixup_alpha`.
        background: probability that a crop without any row is laid under a crop of a TP row, by
            `mixup_alpha` and `mixup_domain`; needs `crops.unlabelled_per_recording`.
        gain_sd: standard deviation of the log gain on a whole crop: of PCEN values, or of what
            the logarithm is taken of.
        equalizer_sd: standard deviation of such a log gain that varies smoothly over the bands.
        band_shift: a crop is moved up or down by at most this many mel bands.
        stretch: a crop is played slower or faster by up to this part (0.15: 1.15 times).
        noise_sd: standard deviation of noise added to a crop, in those of the crop.
        click: probability of a click: one frame as loud in all bands as the loudest cell.
        frequency_masks: number of mel stripes set to the crop's mean.
        frequency_mask_bands: largest width of one stripe, in mel bands.
        frequency_masks_spare_box: leave the bands of the box that the crop was cut for alone.
        time_masks: number of stripes in time set to the crop's mean.
        time_mask_s: largest width of one stripe in seconds.
    """

    tp_shift_s: NonNegativeFloat = 0.02
    fp_shift_boxes: NonNegativeFloat = 1.0
    fp_flip: Probability = 0.5
    fp_cut_paste: Probability = 0.5
    fp_mixup: Probability = 0.5
    tp_mixup: Probability = 0.0
    mixup_alpha: PositiveFloat = 4.0
    mixup_labels: Literal["union", "weighted"] = "union"
    mixup_domain: Literal["spectrogram", "power"] = "spectrogram"
    feature_mixup: Probability = 0.0
    background: Probability = 0.0
    gain_sd: NonNegativeFloat = 0.0
    equalizer_sd: NonNegativeFloat = 0.0
    band_shift: Annotated[int, Field(ge=0)] = 0
    stretch: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    noise_sd: NonNegativeFloat = 0.0
    click: Probability = 0.0
    frequency_masks: Annotated[int, Field(ge=0)] = 0
    frequency_mask_bands: PositiveInt = 8
    frequency_masks_spare_box: bool = True
    time_masks: Annotated[int, Field(ge=0)] = 0
    time_mask_s: PositiveFloat = 0.2
