"""Runs on disk, and models of any other form -> scorers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rfcx_tf.core.errors import UserError
from rfcx_tf.runs.open import Run, open_run
from rfcx_tf.scoring.baseline import load_baseline
from rfcx_tf.scoring.calibration import read_calibration
from rfcx_tf.scoring.detector import DetectorScorer, detector_card, load_detectors
from rfcx_tf.scoring.ensemble import EnsembleScorer
from rfcx_tf.scoring.listener import load_listener
from rfcx_tf.scoring.scorer import Scorer


def load_scorer(run: Run, folds: Sequence[int] | None = None, *, shards_id: str = "") -> Scorer:
    """What a run has learned.

    Args:
        run: of any kind.
        folds: whose weights score; None: those of all finished folds, and with the run's
            calibration if it has one, for that is of all folds together.
        shards_id: of the shards whose recordings are scored. A listener that was trained on them
            has kept what it heard, and does not hear them again (`Scorer.stream`).

    Raises:
        UserError: if no fold is finished, weights are missing or do not fit, or the calibration is
            of other classes.
    """
    chosen = run.finished_folds if folds is None else list(folds)
    if not chosen:
        raise UserError(
            f"A run needs at least one finished fold. {run.path} has none. Train it to its end."
        )
    scorer = _LOADERS[run.kind](run, chosen, shards_id)
    path = run.path / "calibration.yaml"
    if folds is None and path.exists():
        scorer.card = scorer.card.replace(calibration=read_calibration(path, scorer.card.columns))
    return scorer


def open_scorer(place: str | Path, model: str | None = None) -> Scorer:
    """Whatever scores sound, told from what lies there.

    Args:
        place: a run folder, the folder of an exported SavedModel, a LiteRT file, or the address
            of a server (http://HOST:8501, grpc://HOST:8500).
        model: name of the model on a server.

    Raises:
        UserError: if it is none of these.
    """
    if "://" in str(place):
        from rfcx_tf.scoring.served.scorer import open_served

        if model is None:
            raise UserError(
                f"A server has models by name. Name one with model=. Received: {place}."
            )
        return open_served(str(place), model)
    path = Path(place)
    if path.is_file():
        from rfcx_tf.scoring.litert import LiteRtScorer

        return LiteRtScorer(path.read_bytes())
    if (path / "saved_model.pb").exists() or any(path.glob("[0-9]*/saved_model.pb")):
        from rfcx_tf.scoring.exported import ExportedScorer

        return ExportedScorer(path)
    return load_scorer(open_run(path))


def load_together(
    runs: Sequence[Run], weights: Sequence[float] | None = None, rule: str = "mean"
) -> Scorer:
    """One run as it is, or several as an ensemble (`EnsembleScorer`, with its errors)."""
    if len(runs) == 1 and rule == "mean":
        return load_scorer(runs[0])
    # The calibration of one member is not that of the ensemble, so what is wrong with it is no
    # matter here.
    members = [load_scorer(run, None if len(runs) == 1 else run.finished_folds) for run in runs]
    return EnsembleScorer(members, weights, rule)


def _load_detector(run: Run, folds: Sequence[int], shards_id: str) -> Scorer:
    info = run.info
    card = detector_card(
        run.config, info.classes, info.mean_box_s, info.box_hz, made_by=str(run.path)
    )
    return DetectorScorer(run.config, card, load_detectors(run, folds))


_LOADERS: dict[str, Callable[[Run, Sequence[int], str], Scorer]] = {
    "detector": _load_detector,
    "listener": load_listener,
    "baseline": lambda run, folds, shards_id: load_baseline(run, folds),
}
