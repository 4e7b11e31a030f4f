"""The recipe of a baseline: logistic regressions on pooled statistics of crops."""

from __future__ import annotations

from typing import ClassVar

from rfcx_tf.core.config.recipe import Config
from rfcx_tf.core.config.section import PositiveFloat


class BaselineConfig(Config):
    """A detector's recipe, of which a baseline takes front end, crops, label weights and folds.

    Attributes:
        c: inverse strength of the L2 regularisation, scikit-learn's C.
    """

    kind: ClassVar[str] = "baseline"

    # scikit-learn's default: the truth is for scoring, so nothing is chosen by it.
    c: PositiveFloat = 1.0
