"""One logistic regression a class, on features of which only some labels are known."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from rfcx_tf.errors import InputError
from rfcx_tf.files import atomic_file

_MAX_ITERATIONS = 5000


@dataclass(frozen=True)
class MaskedRegressions:
    """Fitted regressions on standardised features.

    Attributes:
        mean, scale: float64 [features], what features are standardised with.
        coefficients: float64 [features, classes]; intercepts: float64 [classes].
        fitted: bool [classes]; False where there was nothing to tell apart: no positives, or
            nothing but positives.
    """

    mean: np.ndarray
    scale: np.ndarray
    coefficients: np.ndarray
    intercepts: np.ndarray
    fitted: np.ndarray

    def probability(self, features) -> tf.Tensor:
        """Features [..., features] -> float64 [..., classes]; 0 for classes not fitted."""
        # float64: in float32 the scores of loud recordings would all round to 1.
        standardised = (tf.cast(features, tf.float64) - self.mean) / self.scale
        logits = tf.tensordot(standardised, self.coefficients, axes=1) + self.intercepts
        return tf.sigmoid(logits) * self.fitted.astype(np.float64)

    def save(self, path: Path) -> None:
        """Writes an .npz file in one step."""
        with atomic_file(path) as temporary:
            np.savez(temporary, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> MaskedRegressions:
        """Reads what `save` wrote.

        Raises:
            InputError: if the file is missing or damaged.
        """
        try:
            with np.load(path) as arrays:
                return cls(**arrays)
        except (OSError, ValueError, TypeError, EOFError, BadZipFile) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"The regressions {path} cannot be loaded: {reason:.200}. Train the run again."
            ) from None


def fit_regressions(
    features: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    c: float,
) -> MaskedRegressions:
    """Standardises all features and fits each class on the rows whose label weighs something.

    Present and absent are weighed so that both count as much in every class: annotators say no
    more often than yes, and not equally often of all classes.

    Args:
        features: float32 [rows, features].
        target: float32 [rows, classes], 1 where the class is present.
        weights: float32 [rows, classes], weight of every label; 0 where it counts for nothing.
        c: inverse strength of the L2 regularisation, scikit-learn's C.
    """
    features = features.astype(np.float64)
    scaler = StandardScaler().fit(features)
    standardised = scaler.transform(features)
    # The products are so small that several threads only wait for each other, on a busy
    # machine more than ten times as long as one takes.
    with threadpool_limits(1, "blas"):
        labels = zip(target.T, weights.T, strict=True)
        fits = [_fit_class(standardised, *label, c) for label in labels]
    nothing = np.zeros(features.shape[1])
    return MaskedRegressions(
        mean=scaler.mean_,
        scale=scaler.scale_,
        coefficients=np.stack([nothing if f is None else f.coef_[0] for f in fits], axis=1),
        intercepts=np.array([0.0 if f is None else f.intercept_[0] for f in fits]),
        fitted=np.array([f is not None for f in fits]),
    )


def _fit_class(
    features: np.ndarray, target: np.ndarray, weights: np.ndarray, c: float
) -> LogisticRegression | None:
    counts = weights > 0
    present = target[counts] > 0
    if present.all() or not present.any():
        return None
    regression = LogisticRegression(C=c, class_weight="balanced", max_iter=_MAX_ITERATIONS)
    return regression.fit(features[counts], present, sample_weight=weights[counts])
