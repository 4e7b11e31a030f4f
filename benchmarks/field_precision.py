"""What precision thresholds reach in whole recordings: those of crops, and those of verdicts.

    python -m benchmarks.field_precision --window-scores windows.parquet --boxes truth_events.csv \\
        --calibration runs/demo/calibration.yaml
    python -m benchmarks.field_precision --run runs/fieldmix --data DIR \\
        --boxes DIR/train_boxes.csv --calibration runs/fieldmix/calibration.yaml \\
        --window-scores held_out.parquet

With --run, windows are scored first, of every recording by the fold that held it out, and kept in
--window-scores.

Verdicts are simulated: an event is right if it shares a tenth of a second with a box of its
species. Boxes are all calls of all species (complete truth, used for nothing else). Every
repetition draws another sample (`rfcx_tf.review.random_sample`), fits a calibration
(`rfcx_tf.evaluation.field_calibration`) and asks the truth. Intervals should hold it 95 times of
100. Events are also found anew with the calibration, as `rfcx-tf events --calibration` does; of
these, `precision of recordings` is that of saying that a species is in a recording.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from rfcx_tf.evaluation.field_calibration import fit_field_calibration
from rfcx_tf.evaluation.thresholds import parse_wanted
from rfcx_tf.events.rules import EventRules
from rfcx_tf.events.window_table import (
    event_recordings,
    open_window_table,
    write_window_scores,
)
from rfcx_tf.review.random_sample import sample_events
from rfcx_tf.scoring.calibration import write_calibration

_SHARED_S = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--window-scores", required=True, type=Path, help="of `predict`")
    parser.add_argument("--run", type=Path, help="score what its folds held out first")
    parser.add_argument("--data", type=Path, help="where the recordings of --run are")
    parser.add_argument("--boxes", required=True, type=Path, help="recording_id, species_id, t_...")
    parser.add_argument("--calibration", required=True, type=Path, help="of held-out crops")
    parser.add_argument("--threshold", type=float, default=0.05, help="of events to sample from")
    parser.add_argument("--wanted", default="precision=0.9")
    parser.add_argument("--verdicts", type=int, default=180)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--anew", type=int, default=20, help="repetitions that find events anew")
    arguments = parser.parse_args()
    wanted = parse_wanted(arguments.wanted)
    boxes = {
        key: own[["t_min", "t_max"]].to_numpy()
        for key, own in pd.read_csv(arguments.boxes).groupby(["recording_id", "species_id"])
    }
    if arguments.run:
        keep_held_out(arguments.run, arguments.data, arguments.window_scores)
    work = arguments.window_scores.with_suffix(".simulated.yaml")
    with open_window_table(arguments.window_scores) as table:
        kept = list(table.recordings())
        card = table.card
    known = {windows.recording.recording_id for windows in kept}
    calls = sum(len(own) for (name, _), own in boxes.items() if name in known)

    def found(**rules) -> pd.DataFrame:
        events, _ = EventRules(**rules).of_model(card).events(kept)
        return events.assign(right=is_right(events, boxes))

    def reached(found: pd.DataFrame) -> dict[str, float]:
        pairs = found[["recording_id", "species_id"]].drop_duplicates()
        present = [pair in boxes for pair in pairs.itertuples(index=False, name=None)]
        return {
            "precision": found["right"].mean(),
            "recall": found["right"].sum() / there,
            "recordings": np.mean(present) if present else np.nan,
        }

    events = found(calibration=arguments.calibration, threshold=arguments.threshold)
    there = int(events["right"].sum())
    print(
        f"{len(kept)} recordings, {calls} calls; {len(events)} events from a probability of "
        f"{arguments.threshold:g} on, {there} of them right.\n"
    )
    today = reached(found(calibration=arguments.calibration))
    rows = {"thresholds of held-out crops": pd.DataFrame([today])}
    column = events["species_id"].map({c.species_id: k for k, c in enumerate(card.classes)})
    column, right = column.to_numpy(), events["right"].to_numpy()
    every = np.arange(len(events))
    by_verdicts, anew, held = [], [], []
    for repeat in range(arguments.repeats):
        sample = sample_events(events.assign(event=every), arguments.verdicts, seed=repeat)
        fit = fit_field_calibration(
            events, sample[["event", "right", "inclusion"]], card.classes, wanted, seed=repeat
        )
        scores = np.tile(events["score"].to_numpy()[:, None], (1, len(card.classes)))
        probability = fit.calibration.probabilities(scores)[every, column]
        detected = probability >= fit.calibration.thresholds[column]
        by_verdicts.append(figures(right, detected))
        for row in fit.species.to_dict("records"):
            own = (
                every
                if row["class"] == "all"
                else np.flatnonzero(column == card.columns.index(row["class"]))
            )
            which = "all species" if row["class"] == "all" else "single species"
            of_own = figures(right[own], detected[own]) | {"right_events": right[own].sum()}
            for name in ("precision", "right_events"):
                if not np.isnan(of_own[name]):
                    low, high = row[f"{name}_low"], row[f"{name}_high"]
                    # Two bounds that are one number are it but for rounding.
                    hold = low - 1e-9 <= of_own[name] <= high + 1e-9
                    held.append({"figure": f"{name} of {which}", "held": hold, "width": high - low})
        if repeat < arguments.anew:
            write_calibration(fit.calibration, work)
            anew.append(reached(found(calibration=work)))
            work.unlink()
    rows[f"thresholds of {arguments.verdicts} verdicts"] = pd.DataFrame(by_verdicts)
    rows["the same, events found anew"] = pd.DataFrame(anew)
    print(
        "| | precision | standard deviation | right events of all | precision of recordings |\n"
        "|---|---|---|---|---|"
    )
    for name, table in rows.items():
        spread = f"{table['precision'].std():.3f}" if len(table) > 1 else ""
        mean = table.mean()
        of_recordings = f"{mean['recordings']:.3f}" if "recordings" in mean else ""
        print(
            f"| {name} | {mean['precision']:.3f} | {spread} | {mean['recall']:.3f} "
            f"| {of_recordings} |"
        )
    print("\n| 95 % interval of | holds | mean width |\n|---|---|---|")
    for name, own in pd.DataFrame(held).groupby("figure"):
        print(f"| {name} | {own['held'].mean():.3f} | {own['width'].mean():.3f} |")


def keep_held_out(path: Path, data: Path | None, out: Path) -> None:
    """Writes the windows of all recordings that a run held out, each by its own fold."""
    from rfcx_tf.runs.open import open_run
    from rfcx_tf.scoring.load import load_scorer
    from rfcx_tf.scoring.scorer import RecordingResult, score_recordings
    from rfcx_tf.shards.records import read_manifest

    run = open_run(path)
    manifest = read_manifest(Path(run.info.tfrecords))
    scorers = {
        fold: load_scorer(run, [fold], shards_id=manifest.shards_id) for fold in run.finished_folds
    }

    def results():
        for fold, scorer in scorers.items():
            sources = manifest.audio_sources(fold, data)
            for _, result in score_recordings(scorer, sources, known=True):
                if not isinstance(result, RecordingResult):
                    raise SystemExit(str(result))
                yield result

    card = scorers[run.finished_folds[0]].card
    write_window_scores(event_recordings(results(), {}), out, card)


def is_right(events: pd.DataFrame, boxes: dict) -> np.ndarray:
    """Whether each event shares a tenth of a second with a box, bool [events]."""
    shared_s = [
        (np.minimum(box[:, 1], event.end_s) - np.maximum(box[:, 0], event.start_s)).max()
        if (box := boxes.get((event.recording_id, event.species_id))) is not None
        else 0.0
        for event in events.itertuples()
    ]
    return np.array(shared_s) >= _SHARED_S


def figures(right: np.ndarray, detected: np.ndarray) -> dict[str, float]:
    """Precision and recall of what is detected, NaN where nothing is."""
    found = (right & detected).sum()
    return {
        name: found / count.sum() if count.any() else np.nan
        for name, count in (("precision", detected), ("recall", right))
    }


if __name__ == "__main__":
    main()
