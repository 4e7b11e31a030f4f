"""A random sample: its probabilities by counting draws, and its verdicts by event."""

import numpy as np
import pandas as pd
import pytest
from made_events import event
from refused import refused

from rfcx_tf.cli.main import main
from rfcx_tf.review.random_sample import sample_events
from rfcx_tf.review.sample_verdicts import read_sample_verdicts
from rfcx_tf.scoring.calibration import read_calibration


def made_events(sizes=(40, 9, 3)):
    random = np.random.default_rng(1)
    return pd.DataFrame(
        [
            event(f"r{number % 7}", species, 10.0 * number, 10 * number + 2, random.random())
            for species, size in zip((2, 5, 9), sizes, strict=True)
            for number in range(size)
        ]
    )


def test_inclusion_is_how_often_an_event_is_drawn():
    events = made_events()
    drawn, promised = np.zeros(len(events)), np.zeros(len(events))
    row_of = {
        key: row
        for row, key in enumerate(zip(events["species_id"], events["start_s"], strict=True))
    }
    for seed in range(100):
        sample = sample_events(events, 20, seed=seed)
        assert len(sample) == 20
        for pick in sample.itertuples():
            drawn[row_of[pick.species_id, pick.start_s]] += 1
            promised[row_of[pick.species_id, pick.start_s]] += pick.inclusion
    # Of rare species all; of 100 draws four standard deviations are 0.2 or less.
    often = drawn / 100
    assert (often[-3:] == 1).all()
    np.testing.assert_allclose(often, promised / np.maximum(drawn, 1), atol=0.2)


def test_weights_add_up_to_all_events_and_species_take_turns():
    events = made_events((400, 90, 3))
    sample = sample_events(events, 43)
    weight = 1 / sample["inclusion"]
    assert weight.groupby(sample["species_id"]).sum().to_dict() == pytest.approx(
        {2: 400, 5: 90, 9: 3}
    )
    assert sample["species_id"].value_counts().to_dict() == {2: 20, 5: 20, 9: 3}
    # A quarter of a species' draws in each of its halves: 5 of the 50 highest of 400.
    highest = events[events["species_id"] == 2].nlargest(50, "score").index
    own = sample[sample["species_id"] == 2]
    assert own["start_s"].isin(events.loc[highest, "start_s"]).sum() == 5
    assert sorted(own["inclusion"].round(3).unique()) == [0.025, 0.05, 0.1]
    assert set(sample["reason"]) == {"random"}
    # The same events in another order give the same sample.
    again = sample_events(events.sample(frac=1, random_state=0), 43)
    pd.testing.assert_frame_equal(sample, again)
    assert len(sample_events(events, 1000)) == 493


def write(path, rows):
    columns = ["recording_id", "species_id", "t_min", "t_max", "verdict", "inclusion"]
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    return path


def test_verdicts_find_their_events(tmp_path):
    events = made_events()
    one = write(
        tmp_path / "one.csv",
        [
            # A box that was moved; most of it still is on the event.
            ("r3", 2, 31.5, 33.5, "TP", 0.5),
            ("r1", 5, 10.0, 12.0, "FP", 0.25),
            ("r0", 9, 0.0, 2.0, "unsure", 1.0),
            ("r2", 9, 20.0, 22.0, "", 1.0),
            ("r5", 2, 50.0, 52.0, "TP", ""),
        ],
    )
    two = write(tmp_path / "two.csv", [("r3", 2, 30.0, 32.0, "yes", 0.5)])
    found = read_sample_verdicts([one, two], events)
    assert (found.open, found.not_drawn) == (2, 1)
    # In one of two samples, each with a half: three quarters.
    assert found.verdicts.to_dict("list") == {
        "event": [3, 41],
        "right": [True, False],
        "inclusion": [0.75, 0.25],
    }


def test_verdicts_that_cannot_be_used_are_named(tmp_path):
    events = made_events()
    path = tmp_path / "a.csv"
    row = ("r3", 2, 30.0, 32.0, "TP", 0.5)
    write(path, [row, ("r3", 2, 33.0, 34.0, "TP", 0.5)])
    assert f"{path}:3: " in refused(read_sample_verdicts, [path], events)
    write(path, [row, (*row[:4], "FP", 0.5)])
    assert "one verdict" in refused(read_sample_verdicts, [path], events)
    write(path, [(*row[:5], 1.5)])
    assert "inclusion" in refused(read_sample_verdicts, [path], events)
    pd.read_csv(path).drop(columns="inclusion").to_csv(path, index=False)
    assert "--sample N" in refused(read_sample_verdicts, [path], events)


def test_from_a_sample_to_a_calibration(field, untrained_run, tmp_path, capsys):
    events = pd.DataFrame(
        event(
            f"tiny0{number % 4 + 6}",
            (2, 5, 9)[number % 3],
            0.1 * number,
            0.1 * number + 1.5,
            0.02 + 0.04 * number,
            file=field.audio / f"tiny0{number % 4 + 6}.flac",
        )
        for number in range(24)
    )
    events.to_csv(field.events, index=False)
    sample, out = tmp_path / "sample", tmp_path / "field.yaml"
    pick = ["review", "pick", "--events", str(field.events), "--out", str(sample)]
    assert main([*pick, "--sample", "24", "--minutes", "1"]) == 2
    assert "--minutes is for events that are chosen" in capsys.readouterr().err
    assert main([*pick, "--sample", "24"]) == 0
    assert f"Next: rfcx-tf review serve --review {sample}\n" in capsys.readouterr().out
    table = pd.read_csv(sample / "review.csv", dtype=str, keep_default_na=False)
    assert set(table["inclusion"]) == {"1"} and set(table["reason"]) == {"random"}
    table["verdict"] = ["TP" if float(score) > 0.4 else "FP" for score in table["score"]]
    table.to_csv(sample / "review.csv", index=False)
    calibrate = ["calibrate", "--run", str(untrained_run.path)]
    calibrate += ["--verdicts", str(sample / "review.csv"), "--out", str(out)]
    assert main(calibrate) == 2
    assert "Name these with --events" in capsys.readouterr().err
    assert main([*calibrate, "--events", str(field.events)]) == 0
    assert "24 events are judged" in capsys.readouterr().out
    found = read_calibration(out)
    assert found.columns == ["s2", "s5", "s9"]
    assert found.wanted == "precision 0.9 in these recordings"
    assert (np.diff(found.probabilities(np.tile([[0.1], [0.5], [0.9]], 3)), axis=0) > 0).all()
    # Every event is judged, so what is said of all of them is what was judged.
    curve = pd.read_csv(out.with_suffix(".csv")).groupby("class").last()
    right = events["score"].gt(0.4).groupby(events["species_id"]).sum()
    assert curve["right_events"].to_list() == right.to_list()
    assert main(["calibrate", "--run", str(untrained_run.path), "--seed", "3"]) == 2
    assert "--seed goes with --verdicts" in capsys.readouterr().err
