"""What people change in a review is in review.csv at once, whole, and can be taken back."""

from pathlib import Path

import pandas as pd
import pytest
from made_events import event
from refused import refused

from rfcx_tf.core.errors import UserError
from rfcx_tf.events.table import EVENT_COLUMNS, empty_events
from rfcx_tf.review.judging import ChangeError, ConflictError, Judging
from rfcx_tf.review.selection import PickRules, pick_events
from rfcx_tf.review.sheet import begin_sheet

HEADER = "recording_id,species_id,t_min,t_max,f_min,f_max,verdict,inclusion"


@pytest.fixture
def sheet(tmp_path):
    path = tmp_path / "review.csv"
    path.write_text(f"{HEADER}\na,2,1.0,2.0,100,200,,0.5\nb,5,3.0,4.5,100,200,Yes,\n")
    return path


def judging_of(path, *events, species=None):
    table = pd.DataFrame(events).astype(EVENT_COLUMNS) if events else empty_events()
    files = {name: Path(f"{name}.wav") for name in table["recording_id"]}
    return Judging(path, table, files, species or {}, lambda name, file: (60.0, 4000.0))


def on_disk(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")


def test_a_verdict_is_saved_and_taken_back(sheet):
    judging = judging_of(sheet)
    assert judging.verdict_counts() == {"": 1, "TP": 1}
    cells = {"verdict": "FP", "comment": ' a, "b"\n', "t_min": 1.23456, "f_max": 250}
    assert judging.change([{"item": 0, "version": 0, "cells": cells}]) == [0]
    first = on_disk(sheet)[0]
    assert (first["verdict"], first["comment"]) == ("FP", 'a, "b"')
    assert (first["t_min"], first["t_max"], first["f_max"]) == ("1.235", "2.0", "250.0")
    assert first["inclusion"] == "0.5"
    assert judging.changed_since(0) == [0] and judging.changed_since(1) == []
    assert judging.undo(1) == [0]
    first = on_disk(sheet)[0]
    assert (first["verdict"], first["t_min"], first["f_max"]) == ("", "1.0", "200")
    # Somebody who opens it anew finds what is there.
    assert judging_of(sheet).verdict_counts() == {"": 1, "TP": 1}


def test_two_people_do_not_overwrite_each_other(sheet):
    judging = judging_of(sheet)
    judging.change([{"item": 0, "version": 0, "cells": {"verdict": "TP"}}])
    before = sheet.read_bytes()
    with pytest.raises(ConflictError):
        judging.change([{"item": 0, "version": 0, "cells": {"verdict": "FP"}}])
    # All edits of a change or none.
    with pytest.raises(ConflictError):
        judging.change(
            [
                {"item": 1, "version": 0, "cells": {"verdict": "FP"}},
                {"item": 0, "version": 0, "cells": {"verdict": "FP"}},
            ]
        )
    assert sheet.read_bytes() == before and judging.revision == 1
    judging.change([{"item": 0, "version": 1, "cells": {"verdict": "unsure"}}])
    with pytest.raises(ConflictError):
        judging.undo(1)


def test_another_species_in_the_box_is_a_row_of_its_own(sheet):
    judging = judging_of(sheet, species={2: "low", 5: "middle", 9: "high"})
    wrong = {"item": 0, "version": 0, "cells": {"verdict": "FP"}}
    judging.change([wrong, {"copy": 0, "cells": {"species": "HIGH", "verdict": "TP"}}])
    judging.change([{"copy": 1, "cells": {"species": "Owl,  brown", "verdict": "TP", "t_max": 5}}])
    rows = on_disk(sheet)
    assert [(r["species_id"], r["verdict"], r["reason"]) for r in rows] == [
        *(("2", "FP", ""), ("5", "TP", ""), ("9", "TP", "by hand"), ("10", "TP", "by hand"))
    ]
    # It was not drawn: it says nothing of the other events.
    assert (rows[2]["inclusion"], rows[2]["t_min"]) == ("", "1.0")
    assert (rows[3]["species"], rows[3]["t_max"]) == ("Owl, brown", "5.000")
    assert "Owl, brown" in judging.species
    judging.change([{"item": 2, "version": 1, "cells": {"species": "owl, BROWN"}}])
    assert on_disk(sheet)[2]["species_id"] == "10"
    judging.undo(2)
    assert len(on_disk(sheet)) == 3
    with pytest.raises(ConflictError):
        judging.change([{"item": 3, "version": 4, "cells": {"verdict": "FP"}}])


def test_an_event_of_the_table_gets_a_row_when_it_is_judged(sheet):
    events = [
        event("a", 2, 1.2, 2.2, 0.9),  # It has a row.
        event("a", 5, 1.0, 2.0, 0.3, band=(float("nan"), float("nan"))),
        event("c", 2, 7.0, 8.0, 0.8),
    ]
    judging = judging_of(sheet, *events)
    assert [item.place for item in judging.items] == ["review", "review", "events", "events"]
    judging.change([{"item": 2, "version": 0, "cells": {"verdict": "FP"}}])
    rows = on_disk(sheet)
    assert len(rows) == 3
    assert rows[2]["file"] == str(Path("a.wav").absolute())
    # An event without a band is of all frequencies.
    assert [rows[2][name] for name in ("t_min", "t_max", "f_min", "f_max", "score", "reason")] == [
        *("1.000", "2.000", "0.0", "4000.0", "0.300000", "by hand")
    ]
    judging.undo(1)
    assert len(on_disk(sheet)) == 2
    assert judging.items[2].place == "events"


def test_a_review_can_begin_with_nothing_but_events(tmp_path):
    path = tmp_path / "new" / "review.csv"
    judging = judging_of(path, event("=a", 2, 1, 2, 0.5))
    assert not path.exists()
    judging.change([{"item": 0, "version": 0, "cells": {"verdict": "TP"}}])
    # As `pick` writes it: for Excel, and without formulas.
    assert path.read_bytes().startswith(b"\xef\xbb\xbfrecording_id,")
    assert on_disk(path)[0]["recording_id"] == "'=a"
    assert judging_of(path, event("=a", 2, 1, 2, 0.5)).verdict_counts() == {"TP": 1}


def test_a_review_begins_with_what_is_picked(tmp_path):
    path = tmp_path / "new" / "review.csv"
    rows = [
        event("a", 2, 1.0, 2.0, 0.5),
        event("b", 5, 3.0, 4.0, 0.9, band=(float("nan"), float("nan"))),
    ]
    events = pd.DataFrame(rows).astype(EVENT_COLUMNS)
    picks = pick_events(events, PickRules(minutes=1))
    begin_sheet(picks, {"a": Path("a.wav"), "b": Path("b.wav")}, path, lambda file: 4000.0)
    found = on_disk(path)
    assert [(row["recording_id"], row["f_min"], row["f_max"], row["reason"]) for row in found] == [
        ("a", "100.0", "200.0", "uncertain"),
        ("b", "0.0", "4000.0", "uncertain"),
    ]
    assert [item.place for item in judging_of(path, *rows).items] == ["review", "review"]


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        ({"item": 2, "version": 0, "cells": {}}, "no event 2"),
        ({"item": True, "version": 0, "cells": {}}, "no event True"),
        ({"item": "0", "version": 0, "cells": {}}, "no event '0'"),
        ({"item": 0, "version": 0}, "has cells"),
        ({"copy": -1, "cells": {}}, "no event -1"),
        ({"item": 0, "version": 0, "cells": {"verdict": "yes"}}, "A verdict is TP"),
        ({"item": 0, "version": 0, "cells": {"file": "/etc/passwd"}}, "'file' cannot be changed"),
        ({"item": 0, "version": 0, "cells": {"recording_id": "b"}}, "cannot be changed"),
        ({"item": 0, "version": 0, "cells": {"comment": "a\x00b"}}, "comment is text"),
        ({"item": 0, "version": 0, "cells": {"comment": 3}}, "comment is text"),
        ({"item": 0, "version": 0, "cells": {"species": "middle"}}, "species of an event stays"),
        ({"copy": 0, "cells": {"species": " "}}, "A species has a name"),
        ({"item": 0, "version": 0, "cells": {"t_min": "1"}}, "t_min is a number"),
        ({"item": 0, "version": 0, "cells": {"t_min": 2.0}}, "t_max must be greater"),
        ({"item": 0, "version": 0, "cells": {"t_max": 61}}, "t_max is from 0 to 60"),
        ({"item": 0, "version": 0, "cells": {"f_max": 10**400}}, "f_max is from 0 to 4000"),
        ({"item": 0, "version": 0, "cells": {"f_min": float("nan")}}, "f_min is from 0 to 4000"),
    ],
)
def test_a_change_that_makes_no_sense_changes_nothing(sheet, edit, complaint):
    judging = judging_of(sheet)
    before = sheet.read_bytes()
    right = {"item": 1, "version": 0, "cells": {"verdict": "FP"}}
    with pytest.raises(ChangeError, match=complaint):
        judging.change([right, edit])
    assert (sheet.read_bytes(), judging.revision) == (before, 0)
    for revision in (0, 1, "1", None):
        assert "no change" in refused(judging.undo, revision)


def test_what_another_program_saved_is_not_written_over(sheet):
    judging = judging_of(sheet)
    sheet.write_text(f"{HEADER}\na,2,1.0,2.0,100,200,TP,0.5\n")
    edit = {"item": 0, "version": 0, "cells": {"verdict": "FP"}}
    assert "changed by another program" in refused(judging.change, [edit])
    assert on_disk(sheet)[0]["verdict"] == "TP"
    assert judging.items[0].cells["verdict"] == ""


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("a,2,1.0,2.0,100,200,perhaps,", ":2: a verdict must be TP"),
        ("a,2,2.0,1.0,100,200,,", ":2: t_max must be greater"),
        ("a,x,1.0,2.0,100,200,,", ":2: species_id must be"),
        (",2,1.0,2.0,100,200,,", ":2: recording_id must not be empty"),
    ],
)
def test_a_row_that_cannot_be_judged_is_named(sheet, row, complaint):
    sheet.write_text(f"{HEADER}\n{row}\n")
    with pytest.raises(UserError, match=complaint):
        judging_of(sheet)
