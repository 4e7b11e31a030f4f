"""Events and verdicts on a random sample of them -> a calibration for these recordings.

A calibration of held-out crops says how likely an annotator's candidate is right. In whole
recordings most sound is no candidate, so thresholds for a precision of 0.9 reach less. Here the
events themselves were judged, so probability, precision and the number of calls are those of
these recordings, for the events as they were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import logit

from rfcx_tf.core.csv_tables import spreadsheet_text
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.evaluation.field_model import FieldModel, fit_field_model, score_logits
from rfcx_tf.evaluation.markdown_table import markdown_table
from rfcx_tf.evaluation.thresholds import Wanted, choose_threshold
from rfcx_tf.scoring.calibration import LARGEST_LOGIT, Calibration, map_scores

# Of intervals: 95 of 100 hold what they are of.
_LOW, _HIGH = 0.025, 0.975
# More points would not show on a curve.
_POINTS = 200
# Knots of a map, a logit apart: between them the mean of logistic curves is all but straight.
_KNOTS = np.arange(-LARGEST_LOGIT, LARGEST_LOGIT + 1)
FEWEST_VERDICTS = 20
# Parts of the scores of a species, as shares of its events: those that samples are drawn from.
_PARTS = (0.5, 0.75, 0.875)


@dataclass(frozen=True)
class FieldCalibration:
    """What verdicts say of events.

    Attributes:
        calibration: map from score to probability, and threshold, of every class.
        species: DataFrame, a row for every class with events and a last row `all`: class, name,
            events, judged, right (of the judged), threshold, score_threshold, detections (events
            from the threshold on), and with an interval each (`_low`, `_high`, 95 %): precision
            (of the detections), right_events (of all), recall (right detections of them).
        curve: DataFrame, of every class from its highest score to its lowest: class, name,
            score, probability, detections (events from that score on), and with intervals
            precision and right_events of these.
        text: the table, what it means and notes on species, as Markdown.
    """

    calibration: Calibration
    species: pd.DataFrame
    curve: pd.DataFrame
    text: str

    def curve_csv(self) -> str:
        """The curve as CSV."""
        digits = {name: 4 for name in self.curve if name.startswith(("probab", "precision"))}
        digits |= {name: 1 for name in self.curve if name.startswith("right_events")}
        table = self.curve.round(digits)
        table["name"] = table["name"].map(spreadsheet_text)
        return table.to_csv(index=False, lineterminator="\n")


def fit_field_calibration(
    events: pd.DataFrame,
    verdicts: pd.DataFrame,
    classes: Sequence[SpeciesClass],
    wanted: Wanted,
    *,
    draws: int = 400,
    seed: int = 0,
) -> FieldCalibration:
    """Fits a calibration to verdicts, and says what it promises of the events.

    Args:
        events: all events that the sample was drawn from: recording_id, species_id, score.
        verdicts: event (the number of the row in `events`), right (bool), inclusion (the
            probability with which it was drawn).
        classes: of the model, in the order of its scores.
        wanted: what thresholds are chosen for, of these events.
        draws: of the uncertainty.
        seed: of these.

    Raises:
        UserError: if too few are judged, or events are of other classes.
    """
    columns = {species.species_id: number for number, species in enumerate(classes)}
    strange = sorted(set(events["species_id"]) - columns.keys())
    if strange:
        raise UserError(
            "Events must be of the model's species. "
            f"It has no species_id {strange[0]}; name the run that found them."
        )
    judged = events.iloc[verdicts["event"]]
    right = verdicts["right"].to_numpy(bool)
    if len(right) < FEWEST_VERDICTS:
        raise UserError(
            f"A calibration needs {FEWEST_VERDICTS} verdicts of a random sample or more, TP or FP. "
            f"Found {len(right)}. Judge more of the review, or draw a larger one with rfcx-tf "
            "review pick --sample N."
        )
    logits = score_logits(judged["score"])
    judged_column = judged["species_id"].map(columns).to_numpy()
    model = fit_field_model(
        logits,
        right,
        judged_column,
        pd.factorize(judged["recording_id"])[0],
        1 / verdicts["inclusion"].to_numpy(float),
        len(classes),
        draws=draws,
        seed=seed,
    )
    known = np.full(len(events), np.nan)
    known[verdicts["event"].to_numpy()] = right
    random = np.random.default_rng([seed, 1])
    place = events.groupby("species_id")["score"].rank(method="first", pct=True).to_numpy()
    part = np.searchsorted(_PARTS, place[verdicts["event"]])
    offsets = np.stack(
        [
            model.part_offsets(*(a[part == p] for a in (logits, right, judged_column)), random)
            for p in range(len(_PARTS) + 1)
        ],
        axis=1,
    )
    thresholds, maps, rows, table, curves, totals = [], [], [], [], [], []
    for column, species in enumerate(classes):
        knots = model.draws(_KNOTS, column).mean(axis=0)
        maps.append(np.maximum.accumulate(logit(knots).clip(-LARGEST_LOGIT, LARGEST_LOGIT)))
        own = np.flatnonzero(events["species_id"].to_numpy() == species.species_id)
        own = own[np.argsort(-events["score"].to_numpy()[own], kind="stable")]
        scores, verdict = events["score"].to_numpy(float)[own], known[own]
        threshold, reached = _threshold(scores, maps[-1], wanted)
        thresholds.append(threshold)
        judged_here = int((~np.isnan(verdict)).sum())
        notes = [] if judged_here else ["no verdict: the map of all species together"]
        if not reached:
            notes.append(f"no event is probable enough for {wanted}: nothing is detected")
        rows.append(
            {
                "name": species.name,
                "method": "field" if judged_here else "pooled",
                "present": int((verdict == 1).sum()),
                "absent": int((verdict == 0).sum()),
                "note": "; ".join(notes),
            }
        )
        if not len(own):
            continue
        of_class = _OfClass.make(model, column, offsets, scores, verdict, random)
        name = {"class": species.column, "name": species.name}
        curves.append(of_class.curve(maps[-1]).assign(**name))
        probability = _map(scores, maps[-1])
        detected = int((probability >= thresholds[-1]).sum())
        totals.append(of_class.totals(detected))
        table.append(
            name
            | {"events": len(own), "judged": judged_here, "right": int((verdict == 1).sum())}
            | {"threshold": float(thresholds[-1]), "detections": detected}
            | _figures(*totals[-1], detected)
        )
    calibration = Calibration(
        [species.column for species in classes],
        np.tile(np.float32(_KNOTS), (len(classes), 1)),
        np.float32(maps),
        np.float32(thresholds),
        rows,
        f"{wanted} in these recordings",
    )
    species_table = pd.DataFrame(table)
    by_score = dict(zip(calibration.columns, calibration.score_thresholds(), strict=True))
    place = species_table.columns.get_loc("threshold") + 1
    species_table.insert(place, "score_threshold", species_table["class"].map(by_score))
    sums = species_table[["events", "judged", "right", "detections"]].sum().to_dict()
    all_true, all_detected = (sum(part) for part in zip(*totals, strict=True))
    overall = {"class": "all", "name": ""} | sums
    overall |= _figures(all_true, all_detected, sums["detections"])
    species_table = pd.concat(
        [species_table, pd.DataFrame([overall])[[c for c in species_table if c in overall]]],
        ignore_index=True,
    )
    curve = pd.concat(curves, ignore_index=True)
    curve = curve[["class", "name", *[c for c in curve if c not in ("class", "name")]]]
    notes = [f"{row['name']}: {row['note']}." for row in rows if row["note"]]
    return FieldCalibration(calibration, species_table, curve, _text(species_table, wanted, notes))


@dataclass(frozen=True)
class _OfClass:
    """Draws of the number of right events from the highest score down, at up to `_POINTS` of them.

    Attributes:
        scores: the lowest of each point, descending [points].
        count: events down to there [points].
        right: of these, [draws, points].
    """

    scores: np.ndarray
    count: np.ndarray
    right: np.ndarray

    @classmethod
    def make(
        cls,
        model: FieldModel,
        column: int,
        offsets: np.ndarray,
        scores: np.ndarray,
        verdict: np.ndarray,
        random: np.random.Generator,
    ) -> _OfClass:
        """Of the scores [events] of a class, descending, with verdicts 1, 0 or NaN.

        Offsets [draws, parts] are those of the parts of the scores.

        What is judged is known. Of the others every draw decides by its own probability: it is
        these events that count, not others like them.
        """
        ends = np.unique(np.linspace(0, len(scores), min(len(scores), _POINTS) + 1).astype(int))[1:]
        begins = np.concatenate([[0], ends[:-1]])
        open_ = np.isnan(verdict)
        unjudged = np.add.reduceat(open_.astype(int), begins)
        certain = np.add.reduceat(np.nan_to_num(verdict), begins)
        logits = np.add.reduceat(score_logits(scores), begins) / (ends - begins)
        part = np.searchsorted(_PARTS, 1 - (begins + ends) / 2 / len(scores))
        found = random.binomial(unjudged, model.draws(logits, column, offsets[:, part]))
        return cls(scores[ends - 1], ends, np.cumsum(certain + found, axis=1))

    def totals(self, detected: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws of the right events among all, and among so many of the highest scores."""
        count = np.concatenate([[0], self.count])
        right = np.concatenate([np.zeros((len(self.right), 1)), self.right], axis=1)
        # Within a point right events are spread evenly.
        last = min(int(np.searchsorted(count, detected)), len(count) - 1)
        part = (detected - count[last - 1]) / (count[last] - count[last - 1]) if last else 0.0
        before = right[:, last - 1] if last else right[:, 0]
        return right[:, -1], before + part * (right[:, last] - before)

    def curve(self, map_: np.ndarray) -> pd.DataFrame:
        """A row for every point: score, probability, detections, precision, right_events."""
        precision = self.right / self.count
        return pd.DataFrame(
            {
                "score": self.scores,
                "probability": _map(self.scores, map_),
                "detections": self.count,
                **_interval("precision", precision),
                **_interval("right_events", self.right),
            }
        )


def _map(scores: np.ndarray, map_: np.ndarray) -> np.ndarray:
    return map_scores(scores, np.float32(_KNOTS), np.float32(map_))


def _threshold(scores: np.ndarray, map_: np.ndarray, wanted: Wanted) -> tuple[float, bool]:
    """As `choose_threshold`, for events with these scores; a class without any is to have 0.5, or
    the wanted precision."""
    if len(scores):
        return choose_threshold(_map(scores, map_), wanted)
    return (wanted.value if wanted.figure == "precision" else 0.5), True


def _figures(right: np.ndarray, detected_right: np.ndarray, detected: int) -> dict[str, float]:
    """Figures and intervals of draws of right events, among all and among detections [draws]."""
    nothing = np.full(len(right), np.nan)
    precision = detected_right / detected if detected else nothing
    recall = np.divide(detected_right, right, out=nothing.copy(), where=right > 0)
    return (
        _interval("precision", precision)
        | _interval("recall", recall)
        | _interval("right_events", right)
    )


def _interval(name: str, draws: np.ndarray) -> dict[str, np.ndarray]:
    """Mean and bounds over draws [draws, ...] of a figure."""
    low, high = np.quantile(draws, (_LOW, _HIGH), axis=0)
    return {name: draws.mean(axis=0), f"{name}_low": low, f"{name}_high": high}


def _text(species: pd.DataFrame, wanted: Wanted, notes: Sequence[str]) -> str:
    shown = species.copy()
    for name in ("precision", "recall", "right_events"):
        digits = 0 if name == "right_events" else 2
        figure, low, high = (shown.pop(f"{name}{end}") for end in ("", "_low", "_high"))
        shown[name] = [
            "" if np.isnan(f) else f"{f:.{digits}f} ({a:.{digits}f} to {b:.{digits}f})"
            for f, a, b in zip(figure, low, high, strict=True)
        ]
    lines = [
        "# Calibration by verdicts on a random sample of events",
        "",
        f"Thresholds for: {wanted}, of the events of these recordings.",
        "",
        *markdown_table(shown),
        "",
        "`judged`: TP or FP in the sample, `right` of them TP. `detections`: events from the "
        "threshold (of the probability; `score_threshold` of the score) on. `precision` and "
        "`recall` are of these, `right_events` of all events, with 95 % intervals. `recall` does "
        "not count calls that no event was found for.",
        "Species with few verdicts are drawn towards all together, those without have their map.",
    ]
    if notes:
        lines += ["", *[f"- {note}" for note in notes]]
    return "\n".join(lines) + "\n"
