"""One logistic regression a class, on features of which only some labels are known."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from keras import ops
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight
from threadpoolctl import threadpool_limits

from rfcx_tf.core.arrays import read_arrays
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file

_MAX_ITERATIONS = 5000
# A model's half per mille is nothing, and most classes are absent from most windows.
_LEAST_PROBABILITY = 5e-4


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

    def probability(self, features):
        """Features [..., features] -> float64 [..., classes]; 0 for classes not fitted."""
        # float64: in float32 the scores of loud recordings would all round to 1.
        standardised = (ops.cast(features, "float64") - self.mean) / self.scale
        logits = ops.tensordot(standardised, self.coefficients, axes=1) + self.intercepts
        return ops.sigmoid(logits) * self.fitted.astype(np.float64)

    def save(self, path: Path) -> None:
        """Writes an .npz file in one step."""
        with atomic_file(path) as temporary:
            np.savez(temporary, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> MaskedRegressions:
        """Reads what `save` wrote.

        Raises:
            UserError: if the file is missing or damaged.
        """
        try:
            return cls(**read_arrays(path))
        except (OSError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"The regressions {path} cannot be loaded: {reason:.200}. Train the run again."
            ) from None


@dataclass(frozen=True)
class PseudoLabelledRows:
    """Rows that models labelled with probabilities.

    Attributes:
        features: float32 [rows, features].
        probability: float32 [rows, classes], of the class being present.
        weights: float32 [rows, classes], weight of every label; 0 where it counts for nothing.
    """

    features: np.ndarray
    probability: np.ndarray
    weights: np.ndarray


def fit_regressions(
    features: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    c: float,
    pseudo: PseudoLabelledRows | None = None,
) -> MaskedRegressions:
    """Standardises all features and fits each class on the rows whose label weighs something.

    Present and absent are weighed so that both count as much in every class: annotators say no
    more often than yes, and not equally often of all classes. Pseudo-labelled rows
    count as they are, since nobody has chosen them: as present with the weight p and absent with
    1 - p, which has the gradient of the cross-entropy with p.

    Args:
        features: float32 [rows, features].
        target: float32 [rows, classes], 1 where the class is present.
        weights: float32 [rows, classes], weight of every label; 0 where it counts for nothing.
        c: inverse strength of the L2 regularisation, scikit-learn's C.
        pseudo: more rows; they do not decide how features are standardised, nor that a class is
            fitted.
    """
    features = features.astype(np.float64)
    scaler = StandardScaler().fit(features)
    standardised = scaler.transform(features)
    pseudo_features = (
        None if pseudo is None else scaler.transform(pseudo.features.astype(np.float64))
    )
    # The products are so small that several threads only wait for each other, on a busy
    # machine more than ten times as long as one takes.
    with threadpool_limits(1, "blas"):
        fits = []
        for number in range(target.shape[1]):
            rows = _annotated_rows(standardised, target[:, number], weights[:, number])
            if rows is not None and pseudo is not None:
                more = _doubled_rows(
                    pseudo_features, pseudo.probability[:, number], pseudo.weights[:, number]
                )
                rows = [np.concatenate(parts) for parts in zip(rows, more, strict=True)]
            fits.append(None if rows is None else _fit_class(*rows, c))
    nothing = np.zeros(features.shape[1])
    return MaskedRegressions(
        mean=scaler.mean_,
        scale=scaler.scale_,
        coefficients=np.stack([nothing if f is None else f.coef_[0] for f in fits], axis=1),
        intercepts=np.array([0.0 if f is None else f.intercept_[0] for f in fits]),
        fitted=np.array([f is not None for f in fits]),
    )


def _annotated_rows(
    features: np.ndarray, target: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Features, labels and balanced weights of the rows that count; None if all are alike."""
    counts = weights > 0
    present = target[counts] > 0
    if present.all() or not present.any():
        return None
    own = weights[counts].astype(np.float64)
    classes = np.array([False, True])
    balance = compute_class_weight("balanced", classes=classes, y=present, sample_weight=own)
    return features[counts], present, own * balance[present.astype(int)]


def _doubled_rows(
    features: np.ndarray, probability: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every row once as present and once as absent, where that weighs something."""
    present, absent = (
        (weights > 0) & (part > _LEAST_PROBABILITY) for part in (probability, 1 - probability)
    )
    labels = np.repeat([True, False], [present.sum(), absent.sum()])
    own = np.concatenate([(weights * probability)[present], (weights * (1 - probability))[absent]])
    return np.concatenate([features[present], features[absent]]), labels, own


def _fit_class(
    features: np.ndarray, present: np.ndarray, weights: np.ndarray, c: float
) -> LogisticRegression:
    regression = LogisticRegression(C=c, max_iter=_MAX_ITERATIONS)
    return regression.fit(features, present, sample_weight=weights)
