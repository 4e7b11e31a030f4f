"""Whole pages: they hold everything they show, load nothing, and have the tables' numbers."""

import base64
import hashlib
import re
import shutil

import numpy as np
import pandas as pd
from page_reader import COLUMNS, NAMES, Page
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score

from rfcx_tf.cli.main import main
from rfcx_tf.report.prediction_report import Prediction, prediction_report
from rfcx_tf.scoring.left_out import read_left_out


def report(*arguments) -> int:
    """Runs the verb; returns its exit status."""
    return main(["report", *map(str, arguments)])


def check_self_contained(page: Page):
    """Nothing is loaded from anywhere, and nothing but the page's own script runs."""
    for name, attributes in page.elements:
        for key, value in attributes.items():
            if key in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
                assert re.match("data:|#", value), (name, key, value[:80])
            # Handlers and styles in attributes would have to be allowed for all of the page.
            assert not key.startswith("on") and key != "style", (name, key)
    assert not {"iframe", "object", "embed", "base", "form"} & {n for n, _ in page.elements}
    (policy,) = (m["content"] for m in page.of("meta") if m.get("http-equiv"))
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules.pop("default-src") == "'none'"
    for kind in ("script", "style"):
        (code,) = page.code[kind]
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert rules.pop(f"{kind}-src") == f"'sha256-{digest}'"
        assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttp|eval\(|innerHTML", code)
    assert rules == {
        "img-src": "data:",
        "media-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def check_references(page: Page):
    """Names are given once, and every one that is used is there."""
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for key in ("for", "aria-labelledby", "data-filters"):
            assert attributes.get(key, ids[0]) in ids
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids
    assert all("aria-label" in a and "controls" in a for a in page.of("audio"))


def test_the_page_of_a_run_has_the_figures_of_its_tables(hand_made_run, tmp_path, capsys):
    out, truth_path = tmp_path / "run.html", tmp_path / "truth.csv"
    truth, crops = hand_made_run.truth, hand_made_run.crops
    truth.astype(dict.fromkeys(COLUMNS, int)).to_csv(truth_path, index=False)
    assert report("--run", hand_made_run.path, "--truth", truth_path, "--out", out) == 0
    assert f"Wrote {out}: {out.stat().st_size / 1e6:.2f} MB" in capsys.readouterr().out
    page = Page(out.read_text())
    check_self_contained(page)
    check_references(page)
    present = truth[COLUMNS].to_numpy(bool)
    lwlrap = label_ranking_average_precision_score(
        present, hand_made_run.scores[COLUMNS], sample_weight=present.sum(axis=1)
    )
    # scikit-learn gives rows without a label a 1, but here with no weight.
    assert f"LWLRAP{lwlrap:.3f}" in page.text
    species = page.table("species").set_index("Species")
    assert species.index.tolist() == list(NAMES.values())
    for i, name in NAMES.items():
        own = crops[crops["species_id"] == i]
        wanted = average_precision_score(own["kind"] == "tp", own[f"s{i}"])
        assert species.loc[name, "AP"] == f"{wanted:.3f}"
        assert species.loc[name, "Recordings"] == str(truth[f"s{i}"].sum())
        assert species.loc[name, ["TP rows", "FP rows"]].tolist() == ["16", "24"]
    folds = page.table("folds")
    assert folds["Fold"].tolist() == ["0", "1", "all"]
    assert folds["Epochs"].tolist() == ["3", "3", "–"]
    is_tp = crops["kind"] == "tp"
    of_species = zip(crops.index, crops["species_id"], strict=True)
    own = np.array([crops.at[row, f"s{i}"] for row, i in of_species])
    loss = -np.log(own[is_tp]).mean()
    assert folds["TP log loss"].iloc[-1] == f"{loss:.3f}"
    # All boxes fit, so an event is wrong only on an FP row.
    right = (own[is_tp] >= 0.5).sum()
    f1 = 2 * right / ((own >= 0.5).sum() + is_tp.sum())
    assert folds["Event F1"].iloc[-1] == f"{f1:.3f}"
    assert f"Event F1{f1:.3f}IoU 0.70 in time, 0.90 in frequency" in page.text
    bins = page.table("reliability-bins")
    raw = bins[bins["Values"] == "scores as they are"]
    counts = np.histogram(own, bins=np.linspace(0, 1, 11))[0]
    assert raw["Labels"].astype(int).tolist() == counts.tolist()
    assert "sample_rate_hz: 8000" in page.text
    assert "Held-out LRAP by epoch. At the last epoch of every fold: 0.600, 0.600" in page.text


def test_scores_that_cannot_be_calibrated_still_give_a_page(hand_made_run, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(hand_made_run.path, path)
    crops = hand_made_run.crops.copy()
    crops[COLUMNS] = 1 - crops[COLUMNS]
    crops = crops.drop(columns=["iou", "band_iou"])  # as of earlier versions
    crops.to_csv(path / "oof_crops.csv", index=False)
    assert report("--run", path, "--out", tmp_path / "run.html") == 0
    page = Page((tmp_path / "run.html").read_text())
    assert "Scores could not be calibrated" in page.text
    assert "calibration" not in page.tables
    assert "reliability-bins" in page.tables
    assert "Event F1" not in page.table("folds")
    assert not re.search(r"\bnan\b", page.text)
    # Of labels that are all alike there is no reliability.
    crops = hand_made_run.crops
    crops[crops["kind"] == "tp"].to_csv(path / "oof_crops.csv", index=False)
    assert report("--run", path, "--out", tmp_path / "run.html") == 0
    page = Page((tmp_path / "run.html").read_text())
    assert "Scores could not be calibrated" in page.text
    assert "reliability-bins" not in page.tables
    assert not re.search(r"\bnan\b", page.text)


def test_the_page_of_events_and_their_run(hand_made_run, found_events, tiny_data, tmp_path, capsys):
    events, out = tmp_path / "events.csv", tmp_path / "events.html"
    found_events.to_csv(events, index=False)
    status = report(
        *("--events", events, "--audio", tiny_data / "train", "--run", hand_made_run.path),
        *("--per-class", 2, "--samples", 0, "--out", out),
    )
    assert status == 0
    assert "20 events, 6 of them with picture and sound." in capsys.readouterr().out
    page = Page(out.read_text())
    check_self_contained(page)
    check_references(page)
    assert len(page.of("audio")) == len(page.of("image")) == 6
    species = page.table("species-found").set_index("Species")
    for name, own in found_events.groupby("species"):
        assert species.loc[name, "Events"] == str(len(own))
        assert species.loc[name, "Surest"] == f"{own['probability'].max():.3f}"
        minutes = (own["end_s"] - own["start_s"]).sum() / 60
        assert species.loc[name, "Minutes"] == f"{minutes:.1f}"
    table = page.table("events")
    assert table["Species"].tolist() == found_events["species"].tolist()
    assert table["Probability"].tolist() == [f"{p:.3f}" for p in found_events["probability"]]
    assert table["Time"].iloc[0] == found_events["start_time"].iloc[0][:19].replace("T", " ")
    # Five recordings of 6 s in each of two hours, so 5 events in 30 s are 600 in an hour.
    count = (found_events["species"] == "low") & found_events["start_time"].str.contains("T05")
    assert f"05:00 to 06:00: {count.sum() * 120} events per recorded hour" in page.text
    assert "05:00 to 06:00: 0.5 minutes recorded" in page.text
    assert "04:00 to 05:00: no recording" in page.text


def sections(events, tiny_data, *, per_class=3, sampled=0, max_bytes=10_000_000, **of_events):
    """The sections of events of `tiny_data`, the clips, and what failed."""
    prediction = Prediction(events, audio=[tiny_data / "train"], **of_events)
    report = prediction_report(
        prediction, per_class=per_class, sampled=sampled, max_bytes=max_bytes
    )
    return report.sections, report.clips, report.failed


def test_a_small_page_keeps_something_of_every_species(found_events, tiny_data):
    whole, clips, _ = sections(found_events, tiny_data)
    size = sum(len(s.content.encode()) for s in whole)
    small, fewer, _ = sections(found_events, tiny_data, max_bytes=40_000 + size * 6 // 10)
    assert (clips.shown, clips.left_out) == (9, 0)
    assert 3 <= fewer.shown < 9
    assert fewer.shown + fewer.left_out == 9
    assert sum(len(s.content.encode()) for s in small) <= size * 6 // 10
    (content,) = (s.content for s in small if s.name == "best-events")
    page = Page(content)
    assert f"{fewer.left_out} more were left out" in page.text
    assert all(name in page.text for name in NAMES.values())


def test_scores_are_held_against_the_truth(found_events, tiny_data):
    truth = pd.read_csv(tiny_data / "train_truth.csv")
    truth = truth.astype(dict.fromkeys(COLUMNS, bool))
    scores = truth[["recording_id"]].assign(
        **dict(zip(COLUMNS, np.random.default_rng(0).uniform(size=(3, 10)), strict=True))
    )
    found, _, _ = sections(found_events, tiny_data, scores=scores, truth=truth, per_class=0)
    page = Page("".join(s.content for s in found))
    table = page.table("species-found").set_index("Class")
    for column in COLUMNS:
        wanted = average_precision_score(truth[column], scores[column])
        assert table.loc[column, "AP"] == f"{wanted:.3f}"
        assert table.loc[column, "Mean score"] == f"{scores[column].mean():.3f}"


def test_what_is_missing_is_said(found_events, tiny_data):
    lost = found_events.copy()
    lost.loc[lost["recording_id"] == "tiny03", "recording_id"] = "elsewhere"
    found, _, failed = sections(lost, tiny_data)
    assert len(failed) == 1
    assert "1 recordings with events were not found, such as elsewhere" in failed[0]
    page = Page("".join(s.content for s in found))
    assert "it is not known how much was recorded" in page.text
    assert page.table("left-out-lines")["Recording"].tolist() == ["elsewhere"]


def test_what_was_left_out_is_named(found_events, tiny_data, tmp_path):
    audio, path = tmp_path / "audio", tmp_path / "scores.left_out.csv"
    shutil.copytree(tiny_data / "train", audio)
    (audio / "damaged.flac").write_bytes(b"fLaC")
    (audio / "skipped.flac").write_bytes(b"fLaC")
    (audio / "listed.flac").write_bytes(b"fLaC")
    path.write_text(
        "recording_id,used,why\nlisted,no,no sound\ntiny01,part,cut\ntiny02,whole,odd\n"
    )
    scores = pd.DataFrame({"recording_id": [*set(found_events["recording_id"]), "damaged"]})
    report = prediction_report(
        Prediction(found_events, audio=[audio], scores=scores, left_out=read_left_out(path)),
        per_class=0,
        sampled=0,
        max_bytes=10**7,
    )
    page, failed = Page("".join(s.content for s in report.sections)), report.failed
    lines = page.table("left-out-lines")
    assert lines["Recording"].tolist() == ["listed", "tiny01", "tiny02", "damaged", ""]
    assert lines["Used"].tolist() == ["no", "part", "whole", "no", "no"]
    assert lines["Why"].iloc[3] == failed[0] and "damaged.flac" in failed[0] and len(failed) == 1
    assert "Recordings that have no scores: 1 (skipped)" in lines["Why"].iloc[4]
    assert "4 recordings or files were left out" in page.text


def test_every_species_is_shown_surest_at_random_and_least_sure(found_events, tiny_data):
    found, clips, _ = sections(found_events, tiny_data, per_class=1, sampled=1)
    (content,) = (s.content for s in found if s.name == "best-events")
    page = Page(content)
    assert len(page.of("audio")) == clips.shown
    for group in clips.groups:
        own = found_events[found_events["species"] == group.name]
        assert group.events == len(own)
        probability = {
            kind: [re.search(r"<strong>(\d\.\d+)", card)[1] for card in cards]
            for kind, cards in group.cards.items()
        }
        assert probability["surest"] == [f"{own['probability'].max():.3f}"]
        if probability["threshold"]:
            assert probability["threshold"] == [f"{own['probability'].min():.3f}"]
        # Those that are chosen twice say so.
        both = 3 - group.shown
        assert str(group.cards).count("also ") == both


def test_a_page_of_no_events_and_no_clock(found_events, tiny_data):
    unknown = found_events.assign(start_time="", end_time="", probability=np.nan)
    for events in (unknown, unknown[:0]):
        page = Page("".join(s.content for s in sections(events, tiny_data)[0]))
        assert "It is not known when these recordings began" in page.text
        assert "scores, not calibrated" in page.text


def test_arguments_that_do_not_go_together_are_refused(tmp_path, capsys):
    out = ("--out", tmp_path / "x.html")
    for arguments, message in (
        ((), "Add --run DIR or --events CSV"),
        (("--run", "r", "--audio", "a"), "--audio is for events"),
        (("--events", "e", "--latitude", "1"), "Add the other one"),
        (("--events", "e", "--latitude", "1", "--longitude", "1", "--sites", "s"), "Leave one out"),
        (("--events", "e", "--truth", "t"), "Add --scores CSV"),
        (("--run", "r", "--max-mb", "0"), "above 0"),
    ):
        assert report(*arguments, *out) == 2
        assert message in capsys.readouterr().err
