"""Tables of scores with names: columns, and rows for every recording and species."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_cards import CALIBRATION, CARD
from refused import refused
from scipy.special import expit, logit

from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.events.output import OutputTables

SCORES = pd.DataFrame({"recording_id": ["a", "=b"], "s4": [0.5, 0.25], "s1": 0.75, "s30": 0.125})


@pytest.mark.parametrize("calibration", [None, CALIBRATION])
def test_names(tmp_path, calibration):
    out, tidy = tmp_path / "scores.csv", tmp_path / "tidy.csv"
    tables = OutputTables(out, names=True, tidy=tidy)
    tables.check(2)
    tables.write(CARD.replace(calibration=calibration), SCORES, lambda: [], complete=True)
    header = out.read_text().splitlines()[0]
    # A spreadsheet program would run `=rain`.
    assert header == "recording_id,Ara ara,'=rain,Boana"
    table = pd.read_csv(tidy)
    assert table["recording_id"].to_list() == ["a"] * 3 + ["'=b"] * 3
    assert table["species"].to_list() == ["Ara ara", "'=rain", "Boana"] * 2
    assert table["species_id"].to_list() == [4, 1, 30] * 2
    assert table["score"].to_list() == [0.5, 0.75, 0.125, 0.25, 0.75, 0.125]
    if calibration is None:
        assert table["probability"].isna().all()
    else:
        expected = expit(logit(table["score"]) / 2)
        np.testing.assert_allclose(table["probability"], expected, atol=1e-6)


def test_two_species_of_one_name(tmp_path):
    classes = (SpeciesClass(4, "frog"), SpeciesClass(1, "frog"), SpeciesClass(30, "owl"))
    out = tmp_path / "scores.csv"
    card = CARD.replace(classes=classes)
    OutputTables(out, names=True).write(card, SCORES, lambda: [], complete=True)
    assert out.read_text().splitlines()[0] == "recording_id,frog (s4),frog (s1),owl"


def test_what_does_not_go_together():
    assert "Leave --names out" in refused(
        OutputTables(Path("a.csv"), names=True, like=Path("b.csv")).check, 1
    )
    assert "different places" in refused(OutputTables(Path("a.csv"), tidy=Path("a.csv")).check, 1)
