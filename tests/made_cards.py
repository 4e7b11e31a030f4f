"""The card of a model of three species, and a calibration of it."""

import numpy as np

from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.scoring.calibration import Calibration
from rfcx_tf.scoring.card import ModelCard

CARD = ModelCard(
    classes=(SpeciesClass(4, "Ara ara"), SpeciesClass(1, "=rain"), SpeciesClass(30, "Boana")),
    sample_rate_hz=8000,
    window_s=2.0,
    hop_s=0.5,
    window_centre_s=(1.0, 1.0, 0.75),
    mean_box_s=(0.5, float("nan"), 1.0),
    box_hz=((100.0, 200.0), (float("nan"), float("nan")), (300.0, 900.0)),
    made_by="a test",
)
# A probability is half the logit of the score.
CALIBRATION = Calibration(
    CARD.columns,
    np.float32([[-20, 20]] * 3),
    np.float32([[-10, 10]] * 3),
    np.float32([0.5, 0.6, 0.7]),
    [{"method": "platt"}] * 3,
    "a test",
)
