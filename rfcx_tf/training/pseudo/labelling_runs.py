"""Runs that label windows (teachers, in noisy-student words): which folds label which recording."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from rfcx_tf.core.errors import UserError
from rfcx_tf.runs.open import Run, check_classes
from rfcx_tf.scoring.ensemble import EnsembleScorer
from rfcx_tf.scoring.load import load_scorer
from rfcx_tf.shards.records import NO_FOLD, Manifest


class LabellingRuns:
    """Runs that label windows together.

    Attributes:
        only_fold: the fold whose detectors label every recording; None: every recording is
            labelled by the detectors that held it out.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        weights: Sequence[float] | None,
        only_fold: int | None = None,
    ):
        """Checks that the runs can label everything.

        Args:
            runs: own runs or listeners, of one class list.
            weights: of the runs, with sum 1; None for equal ones.
            only_fold: see above.

        Raises:
            UserError: if classes differ, or a fold that is needed is not finished.
        """
        check_classes(runs)
        self._runs = runs
        self._weights = [1 / len(runs)] * len(runs) if weights is None else list(weights)
        self.only_fold = only_fold
        self._scorers: dict[int, EnsembleScorer] = {}

    def of_fold(self, fold: int) -> LabellingRuns:
        """The same runs, with the detectors of one fold alone."""
        return LabellingRuns(self._runs, self._weights, fold)

    @property
    def fingerprint(self) -> str:
        """Differs between teachers whose predictions of what they held out differ."""
        parts = [str(self._weights), str(self.only_fold)]
        for run in self._runs:
            folder = run.path if self.only_fold is None else run.fold(self.only_fold)
            predictions = (folder / "oof_scores.csv").read_bytes()
            parts.append(hashlib.sha256(predictions).hexdigest())
        return " ".join(parts)

    @property
    def recipe_fingerprint(self) -> str:
        """Differs between teachers that were to be trained otherwise, whatever is finished."""
        parts = [str(self._weights)]
        for run in self._runs:
            info = run.info
            parts += [run.config.model_dump_json(), run.model_hash, info.shards_id, info.pseudo_id]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def check_folds(self, folds: Iterable[int], manifest: Manifest) -> None:
        """Refuses runs of another assignment of folds, or that lack one of these.

        Args:
            folds: that label; of teachers of one fold alone that one is needed in any case.
            manifest: of the annotated shards.

        Raises:
            UserError: with the run and the folds.
        """
        wanted = (manifest.folds, manifest.fold_seed)
        for run in self._runs:
            found = run.folds_and_seed
            if found != wanted:
                raise UserError(
                    "Teachers must have held out what the shards' folds hold out. "
                    f"{run.path} has training.folds {found[0]} and training.fold_seed {found[1]}, "
                    f"the shards {wanted[0]} and {wanted[1]}. Train teachers on these folds."
                )
        needed = folds if self.only_fold is None else [self.only_fold]
        for run in self._runs:
            missing = [str(fold) for fold in needed if fold not in run.finished_folds]
            if missing:
                raise UserError(
                    "A teacher needs every fold finished that labels. "
                    f"{run.path} lacks {', '.join(missing)}. Train them, or name finished folds "
                    "with --per-fold and --fold."
                )

    def load(self, folds: Iterable[int], shards_id: str) -> None:
        """Loads what labels recordings.

        Args:
            folds: of the recordings, NO_FOLD for those in none.
            shards_id: of the annotated shards, whose recordings a listener may know already.
        """
        for fold in {self._labelled_by(fold) for fold in folds} - set(self._scorers):
            chosen = None if fold == NO_FOLD else [fold]
            members = [load_scorer(run, chosen, shards_id=shards_id) for run in self._runs]
            self._scorers[fold] = EnsembleScorer(members, self._weights)

    def scorer(self, fold: int) -> EnsembleScorer:
        """Who labels the recordings of a fold, loaded before; or those of NO_FOLD."""
        return self._scorers[self._labelled_by(fold)]

    def _labelled_by(self, fold: int) -> int:
        return fold if self.only_fold is None else self.only_fold
