"""The table of what a prediction left out says what it said, whatever names hold."""

import pandas as pd
import pytest

from rfcx_tf.audio.decode import SoundRemark
from rfcx_tf.core.errors import UserError
from rfcx_tf.scoring.left_out import (
    left_out_path,
    left_out_table,
    read_left_out,
    write_left_out,
)
from rfcx_tf.scoring.predict import Predictions

CUT = SoundRemark("a.flac is cut short at 3 s of 6 s.", is_cut=True)
TURNED = SoundRemark('The channels of "b" cancel each other, the louder one was used.')


def table_of(failed, remarks, others=()):
    predictions = Predictions(pd.DataFrame(), failed, remarks)
    return left_out_table(predictions, ["a", "b", "=bad()", "fine"], others)


def test_a_table_has_a_line_for_everything_and_comes_back(tmp_path):
    path = left_out_path(tmp_path / "scores.csv")
    assert path == tmp_path / "scores.left_out.csv"
    table = table_of({"=bad()": "no sound\udcff"}, {"b": (TURNED, CUT), "a": (CUT,)}, ["x.m4a"])
    wanted = [
        ["=bad()", "no", "no soundÿ"],
        ["", "no", "x.m4a"],
        ["a", "part", CUT.text],
        ["b", "part", CUT.text],
        ["b", "whole", TURNED.text],
    ]
    write_left_out(table, path)
    assert read_left_out(path).to_numpy().tolist() == wanted
    # What a spreadsheet program would run is a text to it.
    assert pd.read_csv(path)["recording_id"][0] == "'=bad()"


def test_nothing_to_list_takes_an_older_table_away(tmp_path):
    path = tmp_path / "scores.left_out.csv"
    write_left_out(table_of({"a": "no sound"}, {}), path)
    assert path.exists()
    for _ in range(2):
        write_left_out(table_of({}, {}), path)
        assert not path.exists()


def test_another_table_is_refused(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("recording_id,used,why\na,part,b\nc,perhaps,d\n")
    with pytest.raises(UserError, match=r"x\.csv:3: used must be no, part, whole.*'perhaps'"):
        read_left_out(path)
