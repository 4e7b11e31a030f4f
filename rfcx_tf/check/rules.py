"""Boxes, headers and a machine -> the values of a recipe, each with its reason.

The rules are those by which configs/ was chosen, and what docs/recipe.md measured. What they take
from data are the boxes and the headers of recordings, nothing that only a complete truth would say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from rfcx_tf.check.facts import Facts
from rfcx_tf.check.frontend_rules import (
    Choice,
    Sound,
    check_hears,
    choose_frontend,
    published_frontend,
    values_of,
)
from rfcx_tf.check.speed import Machine
from rfcx_tf.core.config import Config
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.names import readable

# A crop is so many times as long as the mean call of nine species in ten.
_CROP_TIMES, _LONGEST_CROP_S = 1.2, 10.0
_FEWEST_CELLS, _STRIDE = 4, 16
# A window so many times as long as the shortest call is too long for it.
_ONE_WINDOW = 6
# Examples for every TP row: more where the sound itself is changed from draw to draw.
_EXAMPLES_A_ROW = {"pcen": 150, "log": 300}
_FEWEST_EXAMPLES, _MOST_EXAMPLES = 20_000, 400_000
# As configs/yamnet.yaml, of which ten epochs were measured.
_EXAMPLES_A_ROW_PUBLISHED, _FEWEST_EXAMPLES_PUBLISHED, _EPOCHS_PUBLISHED = 60, 10_000, 10
_EPOCHS, _FEWEST_STEPS, BATCH = 48, 20, 64
# TP rows from which a deeper network is proposed: without a GPU and narrow calls, with a GPU.
_SOME_ROWS, _MANY_ROWS = 400, 1000


def choose_values(facts: Facts, machine: Machine, start: Config | None = None) -> list[Choice]:
    """The values that fit a data folder and a machine, defaults among them.

    All boxes count, those of recordings that are not here too.

    Args:
        facts: of the folder.
        machine: that will train.
        start: a recipe that begins with published weights, whose front end and network are taken;
            None for random weights.

    Raises:
        UserError: if there is no TP row, rows are in one recording only, no recording can be
            opened, or a published network cannot hear them.
    """
    if not facts.rows["present"].any():
        raise UserError("A recipe is proposed by TP rows. There are none.")
    recordings = facts.rows["recording_id"].unique()
    if len(recordings) < 2:
        raise UserError(
            "A recipe needs rows in two recordings or more: what is learned in one is tested in "
            f"another. All are in {readable(recordings[0])}. Mark calls in a second one."
        )
    species = facts.species[facts.species["tp"] > 0]
    sound = Sound.of(facts)
    if start:
        check_hears(start, sound, species)
        sound = sound._replace(rate_hz=start.frontend.sample_rate_hz)
        choices = published_frontend(start)
        network = _published_network(start)
    else:
        choices = choose_frontend(sound, species, machine)
        network = _network(choices, facts.rows, machine)
    choices += _crops(choices, sound, species)
    choices += _examples(choices, species)
    choices += network
    choices += _head(choices, species, machine)
    return choices + _training(choices, species, facts.rows, machine, start)


def _crops(choices: Sequence[Choice], sound: Sound, species: pd.DataFrame) -> list[Choice]:
    values = values_of(choices)
    cell_s = _STRIDE * values["frontend.hop_length"] / sound.rate_hz
    usual_s = float(species["mean_s"].quantile(0.9))
    wanted_s = min(_CROP_TIMES * usual_s, _LONGEST_CROP_S)
    cells = max(_FEWEST_CELLS, round(wanted_s / cell_s))
    why = (
        f"{cells} cells of {cell_s:.3f} s: 1.2 times the mean call of nine species in ten "
        f"({usual_s:.2f} s)."
    )
    if cells * cell_s > sound.median_s > _FEWEST_CELLS * cell_s:
        cells = math.floor(sound.median_s / cell_s)
        why = f"{cells} cells of {cell_s:.3f} s: the recordings themselves are no longer."
    crop_s = round(cells * cell_s, 3)
    shift_s = _shift_s(crop_s)
    # Half a crop, or what a shift and a stretch by a tenth take (core/config/recipe.py).
    least_s = (1.1 * (crop_s + 2 * shift_s) - crop_s) / 2
    margin_s = math.ceil(10 * max(crop_s / 2, least_s)) / 10
    return [
        Choice("crops.crop_s", crop_s, why),
        Choice("crops.margin_s", margin_s, "Half a crop: room for shifts and for slower sound."),
    ]


def _shift_s(crop_s: float) -> float:
    return min(1.0, round(0.4 * crop_s, 1))


def _examples(choices: Sequence[Choice], species: pd.DataFrame) -> list[Choice]:
    values = values_of(choices)
    bands = values["frontend.n_mels"]
    found = [
        Choice(
            "dataset.tp_fraction",
            # Also where there are no FP rows yet: verdicts bring some, for which half is too much.
            0.75,
            "With half FP examples it was no better than with a quarter (docs/recipe.md).",
        ),
        Choice(
            "augment.tp_shift_s",
            _shift_s(values["crops.crop_s"]),
            "A sliding window meets calls off its centre, and cut in two.",
        ),
    ]
    alike = _alike(species)
    if alike and values["frontend.compression"] == "pcen":
        found.append(
            Choice(
                "augment.fp_flip",
                0.0,
                f"{alike[0]} and {alike[1]} have one band and one length: they may be each other's "
                "calls backwards.",
            )
        )
    if values["frontend.compression"] == "log":
        power = "Sounds added as power, as in air: 0.04 better than none (docs/recipe.md)."
        found += [
            Choice("augment.tp_mixup", 1.0, power),
            Choice("augment.mixup_alpha", 1.0, power),
            Choice("augment.mixup_domain", "power", power),
        ]
    long = "Changes of the sound itself pay on a long schedule (docs/recipe.md)."
    if values["frontend.compression"] == "log":
        found.append(Choice("augment.equalizer_sd", 0.3, long))
    return [
        *found,
        Choice("augment.band_shift", max(1, bands // 64), long),
        Choice("augment.stretch", 0.1, long),
        Choice("augment.frequency_masks", 2, "Stripes of a tenth of the bands, beside the box."),
        Choice(
            "augment.frequency_mask_bands",
            max(1, bands // 10),
            "Stripes of a tenth of the bands, beside the box.",
        ),
    ]


def _published_network(start: Config) -> list[Choice]:
    backbone = start.model.backbone
    found = (
        "On fieldmix these weights gave 0.896 where random ones gave 0.851, with a fifth of the "
        "examples (docs/recipe.md)."
    )
    return [
        Choice("model.backbone.name", backbone.name, found),
        Choice("model.backbone.weights", backbone.weights, found),
    ]


def _network(choices: Sequence[Choice], rows: pd.DataFrame, machine: Machine) -> list[Choice]:
    values = values_of(choices)
    tp = int(rows["present"].sum())
    is_narrow = values["frontend.compression"] == "pcen"
    if machine.has_gpu:
        found = [
            Choice(
                "model.backbone.name",
                "resnet34" if tp >= _MANY_ROWS else "resnet18",
                f"{tp} TP rows: on 651 ResNet34 was no better than ResNet18 (docs/recipe.md).",
            )
        ]
    elif is_narrow and tp < _SOME_ROWS:
        slim = f"{tp} TP rows of narrow calls: as configs/demo.yaml, 0.97 with 281 rows."
        found = [
            Choice("model.backbone.name", "resnet10", slim),
            Choice("model.backbone.width", 24, slim),
        ]
    else:
        slim = (
            "Width 32 was 0.05 better than 16; wider costs two to four times the time, of which "
            "more examples make as much (docs/recipe.md)."
        )
        found = [
            Choice("model.backbone.name", "resnet18", slim),
            Choice("model.backbone.width", 32, slim),
        ]
        if not is_narrow:
            half = "Half the cost of [2, 2]: the bands of broad sounds need not be told finely."
            found.append(Choice("model.backbone.stem_stride", [2, 4], half))
    return found


def _head(choices: Sequence[Choice], species: pd.DataFrame, machine: Machine) -> list[Choice]:
    values = values_of(choices)
    found = []
    shortest_s, crop_s = float(species["mean_s"].min()), values["crops.crop_s"]
    if crop_s > _ONE_WINDOW * shortest_s:
        found.append(
            Choice(
                "model.head.kind",
                "per_class",
                f"The shortest call lasts {shortest_s:.2f} s, a crop {crop_s:.1f} s: every species "
                "is pooled over its own mean box.",
            )
        )
    as_measured = "As in the recipes that were measured."
    found += [
        Choice("model.head.frequency_pooling", "mean_max", as_measured),
        Choice("model.head.time_pooling", "mean_max", as_measured),
    ]
    if not machine.has_gpu:
        found.append(Choice("model.head.dropout", 0.3, as_measured))
    return [
        *found,
        Choice(
            "loss.unknown_negative_weight",
            0.3,
            "What is not marked is mostly not there: masked out, 0.47 instead of 0.81; at full "
            "weight 0.79 (docs/recipe.md).",
        ),
    ]


def _training(
    choices: Sequence[Choice],
    species: pd.DataFrame,
    rows: pd.DataFrame,
    machine: Machine,
    start: Config | None,
) -> list[Choice]:
    values = values_of(choices)
    tp = int(rows["present"].sum())
    annotated = rows["recording_id"].nunique()
    a_row = _EXAMPLES_A_ROW["log" if machine.has_gpu else values["frontend.compression"]]
    fewest, most_epochs = _FEWEST_EXAMPLES, _EPOCHS
    if start:
        a_row, fewest = _EXAMPLES_A_ROW_PUBLISHED, _FEWEST_EXAMPLES_PUBLISHED
        most_epochs = _EPOCHS_PUBLISHED
    examples = min(max(a_row * tp, fewest), _MOST_EXAMPLES)
    usual = float(species["recordings"].quantile(0.25))
    folds = int(min(5, max(2, math.floor(usual)), annotated))
    steps, epochs = schedule(examples, most_epochs)
    shown = epochs * steps * BATCH
    why = f"{shown:,} examples, {shown / tp:.0f} for every TP row."
    if start:
        why = why[:-1] + "; 62 gave 0.896 on fieldmix (docs/recipe.md)."
    elif values["frontend.compression"] == "log":
        why = why[:-1] + "; a quarter of that scored 0.04 lower on fieldmix (docs/recipe.md)."
    found = [
        Choice(
            "training.folds",
            folds,
            f"Three species in four are in {math.floor(usual)} recordings or more: every fold "
            "holds some of each.",
        ),
        Choice("training.epochs", epochs, why),
        Choice("training.steps_per_epoch", steps, why),
    ]
    if start:
        why = "As in the recipe that was measured."
        found.append(Choice("training.learning_rate", start.training.learning_rate, why))
    elif not machine.has_gpu:
        found.append(
            Choice(
                "training.learning_rate",
                0.002,
                "Half as much scored 0.02 lower with a slim network (docs/recipe.md).",
            )
        )
    return found


def schedule(examples: float, most_epochs: int) -> tuple[int, int]:
    """Steps an epoch, and epochs."""
    steps = max(_FEWEST_STEPS, math.floor(examples / most_epochs / BATCH))
    return steps, max(1, round(examples / BATCH / steps))


def _alike(species: pd.DataFrame) -> tuple[str, str] | None:
    """Two species whose usual boxes are as good as equal; None where there are none."""
    lines = list(species.itertuples())
    for number, one in enumerate(lines):
        for other in lines[:number]:
            shared = min(one.high_hz, other.high_hz) - max(one.low_hz, other.low_hz)
            union = max(one.high_hz, other.high_hz) - min(one.low_hz, other.low_hz)
            lengths_s = sorted((one.mean_s, other.mean_s))
            if shared > 0.9 * union and lengths_s[0] > 0.85 * lengths_s[1]:
                return other.name, one.name
    return None
