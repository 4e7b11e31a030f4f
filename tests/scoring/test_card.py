"""The card of a model: its JSON, and where windows lie."""

import json
import math

import numpy as np
import pytest

from rfcx_tf.core.documents import parse_json, sealed_json
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.scoring.calibration import Calibration
from rfcx_tf.scoring.card import ModelCard

CARD = ModelCard(
    classes=(SpeciesClass(3, "Eleuthérodactyle"), SpeciesClass(7, "b")),
    sample_rate_hz=48000,
    window_s=2.0,
    hop_s=0.5,
    window_centre_s=(1.0, 0.75),
    mean_box_s=(0.9, math.nan),
    box_hz=((500.0, 1200.5), (math.nan, math.nan)),
    ends_inside=False,
    calibration=Calibration(
        ["s3", "s7"],
        np.float32([[-20, 20], [-1.1, 3]]),
        np.float32([[-10, 10], [-2, 2.7]]),
        np.float32([0.5, 0.123456]),
        [{"name": "a"}, {"name": "b"}],
        "precision 0.9",
    ),
    frontend="abc",
    made_by="runs/x",
)


def test_a_card_comes_back_from_json_to_the_bit():
    again = ModelCard.from_json(CARD.to_json())
    assert again == CARD and hash(again) == hash(CARD) and again.replace(hop_s=0.25) != CARD
    assert again.classes == CARD.classes and again.box_hz[0] == CARD.box_hz[0]
    assert math.isnan(again.mean_box_s[1])
    np.testing.assert_array_equal(again.thresholds, CARD.calibration.thresholds)
    assert "NaN" not in CARD.to_json(), "JSON has no NaN"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}', '{"version": "x"}'])
def test_what_is_no_card_is_refused(text):
    with pytest.raises(UserError, match="model's card is JSON"):
        ModelCard.from_json(text)


def test_a_card_with_a_falling_calibration_is_refused():
    values = json.loads(CARD.to_json())
    del values["seal"]
    values["calibration"]["classes"][1]["probability_logits"] = [3.0, 1.0]
    with pytest.raises(UserError, match="has rising maps"):
        ModelCard.from_json(json.dumps(values))


def test_a_card_of_a_later_version_is_refused():
    values = parse_json(CARD.to_json()) | {"version": 2}
    with pytest.raises(UserError, match=r"Found 2\. Update"):
        ModelCard.from_json(sealed_json(values))


def test_a_damaged_card_is_refused():
    text = CARD.to_json().replace('"hop_s": 0.', '"hop_s": 1.')
    assert text != CARD.to_json()
    with pytest.raises(UserError, match="does not match its checksum"):
        ModelCard.from_json(text)


def test_windows_beyond_the_recording_count_as_the_part_inside():
    """Of 2.4 s: the second window reaches from 0.5 to 2.5 s, so from 0.5 to 2.4 for the first
    class; the second class is decided between 0.5 and 2.0 s, all inside."""
    centres_s = CARD.centres_s(2, 2.4)
    np.testing.assert_allclose(centres_s, [[1.0, 0.75], [1.45, 1.25]])
