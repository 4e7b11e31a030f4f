"""A listener's run from shards to scores: what it learns from, what it keeps, where it goes."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import label_ranking_average_precision_score
from sklearn.preprocessing import StandardScaler

from rfcx_tf.audio.decode import AudioSource, read_audio
from rfcx_tf.core.config import ListenerConfig, LossConfig
from rfcx_tf.core.errors import UserError
from rfcx_tf.evaluation.held_out import read_held_out
from rfcx_tf.evaluation.held_out_windows import held_out_windows, highest_windows
from rfcx_tf.evaluation.recordings import evaluate_scores
from rfcx_tf.evaluation.run import evaluate_run
from rfcx_tf.model.embedding import EmbeddingModel, hash_model
from rfcx_tf.model.regressions import MaskedRegressions, PseudoLabelledRows
from rfcx_tf.runs import embeddings as recording_embeddings
from rfcx_tf.runs.embeddings import EmbeddingStore, RecordingEmbeddings
from rfcx_tf.runs.listener_run import ListenerRun
from rfcx_tf.runs.open import open_run, open_runs
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.scoring.load import load_scorer, load_together
from rfcx_tf.scoring.predict import predict_recordings
from rfcx_tf.scoring.score_table import read_scores, read_truth
from rfcx_tf.scoring.scorer import score_blocks
from rfcx_tf.serving.export import check_exportable
from rfcx_tf.shards.pseudo_folder import PseudoLabels, read_probability
from rfcx_tf.shards.records import ShardReader, read_manifest, write_manifest
from rfcx_tf.training.listener import _labeller, annotated_windows, train_listener
from rfcx_tf.training.pseudo.labelling_runs import LabellingRuns
from rfcx_tf.training.pseudo.labels import write_pseudo_labels_per_fold
from rfcx_tf.training.regression_folds import NO_ROW, fit_fold

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ["s2", "s5", "s9"]
# Twice the rate of the recordings, and of a run of our own on them.
CONFIG = ListenerConfig(
    sample_rate_hz=16000,
    window_s=1.0,
    hop_s=0.5,
    output="before_last",
    num_threads=1,
    c=0.1,
    unknown_negative_weight=0.25,
)
LOSS = LossConfig(unknown_negative_weight=CONFIG.unknown_negative_weight)


def train(model, shards, run, config=CONFIG, data=None):
    """The run, and what could not be read."""
    return train_listener(
        model, config, shards, run, data, progress=False, report=lambda text: None
    )


def refused(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def listener(tone_model, tiny_shards, tmp_path_factory) -> ListenerRun:
    path = tmp_path_factory.mktemp("listener") / "run"
    assert train(tone_model, tiny_shards, path)[1] == []
    return ListenerRun.open(path)


@pytest.fixture
def run_copy(listener, tmp_path) -> Path:
    return Path(shutil.copytree(listener.path, tmp_path / "run"))


@pytest.fixture
def counted(monkeypatch) -> list[str]:
    """The recordings that are decoded to be listened to."""
    names = []
    original = recording_embeddings.decode_blocks

    def decode(source, *arguments):
        names.append(source.path.stem)
        return original(source, *arguments)

    monkeypatch.setattr(recording_embeddings, "decode_blocks", decode)
    return names


def test_recordings_that_are_cut_short_are_listened_to_as_far_as_they_go_and_listed(
    tone_model, tiny_data, tiny_shards, tmp_path, counted
):
    """Also by the same call again, which does not listen again."""
    data = shutil.copytree(tiny_data, tmp_path / "data")
    cut = data / "train" / "tiny04.flac"
    cut.write_bytes(cut.read_bytes()[:-20_000])
    for _ in range(2):
        run, failed, lines = train(tone_model, tiny_shards, tmp_path / "run", data=data)
        assert failed == [] and len(lines) == 1
        assert f"{cut} is cut short at" in lines[0]
    assert counted.count("tiny04") == 1
    windows = {
        name: np.load(run.embeddings / f"{name}.npz")["windows"] for name in ("tiny03", "tiny04")
    }
    assert 0 < len(windows["tiny04"]) < len(windows["tiny03"])


# What it learns from


def test_windows_are_labelled_by_rows_and_fitted_as_scikit_learn_does(
    listener, tone_model, tiny_shards
):
    """Everything again from the annotations, for the listener that holds out fold 1."""
    reader = ShardReader(tiny_shards)
    model = EmbeddingModel.open(tone_model, CONFIG)
    embeddings, target, weights = [], [], []
    for name, source in reader.manifest.audio_sources(0).items():
        rows = reader.index[reader.index["recording_id"] == name]
        waveform = read_audio(source, 16000)
        # 6 s: a window every half a second, the last one from 5 s.
        for start_s in [*((rows["t_min"] + rows["t_max"]) / 2 - 0.5), *np.arange(11) / 2]:
            start_s = min(max(start_s, 0), 5)
            present, absent = (np.zeros(3, bool) for _ in range(2))
            for row in rows.itertuples():
                inside_s = min(row.t_max, start_s + 1) - max(row.t_min, start_s)
                if inside_s >= (row.t_max - row.t_min) / 2:
                    (present if row.kind == "tp" else absent)[[2, 5, 9].index(row.species_id)] = 1
            known = present | absent
            if known.any():
                begin = round(start_s * 16000)
                embeddings.append(model.embed(waveform[np.newaxis, begin : begin + 16000])[0])
                target.append(present)
                weights.append(np.where(known, 1.0, 0.25 if present.any() else 0.0))
    target, weights = np.array(target), np.array(weights)
    assert len(target) > 40
    standardised = StandardScaler().fit_transform(np.array(embeddings, float))
    found = MaskedRegressions.load(listener.weights(1)).probability(np.array(embeddings)).numpy()
    for number in range(3):
        counts = weights[:, number] > 0
        regression = LogisticRegression(C=0.1, class_weight="balanced", max_iter=5000)
        regression.fit(
            standardised[counts], target[counts, number], sample_weight=weights[counts, number]
        )
        expected = regression.predict_proba(standardised)[:, 1]
        np.testing.assert_allclose(found[:, number], expected, atol=1e-3)


def test_teachers_teach_it_all_windows_but_what_rows_say(
    listener, windows, run_copy, own_run, tone_model, tiny_data, tiny_shards, tiny_config, tmp_path
):
    """The regressions again by hand, from files, for the listener that holds out fold 1."""
    reader = ShardReader(tiny_shards)
    extra = {"elsewhere": AudioSource(tiny_data / "train" / "tiny00.flac")}
    labels = tmp_path / "labels"
    write_pseudo_labels_per_fold(
        LabellingRuns([own_run], None, None),
        reader,
        tiny_config,
        labels,
        [0, 1],
        extra=extra,
        progress=False,
        report=lambda line: None,
    )
    lines = []
    options = {"pseudo": PseudoLabels(labels), "progress": False, "report": lines.append}
    config = CONFIG.model_copy(update={"pseudo_weight": 0.5})
    # In a copy of a run, whose embeddings are taken as they are.
    run, *_ = train_listener(tone_model, config, tiny_shards, run_copy, **options)
    assert run.info.pseudo == str(labels) and run.info.pseudo_id == PseudoLabels(labels).id
    # Fold 0 and the one recording more, 11 windows each.
    names = [*reader.manifest.audio_sources(0), "elsewhere"]
    assert f"and {11 * len(names)} pseudo-labelled ones" in lines[1]
    assert lines[-1] == "Listened to 11 recordings, now or earlier."
    embeddings, probability, weights = [], [], []
    for name in names:
        centre_s, theirs = read_probability(labels / "fold1", name)
        found = np.load(run_copy / "embeddings" / f"{name}.npz")
        middles_s = found["window_start_s"] + 0.5
        embeddings.append(found["windows"])
        probability.append([np.interp(middles_s, centre_s, p) for p in theirs.T])
        known = np.zeros((11, 3), bool)
        for row in reader.index[reader.index["recording_id"] == name].itertuples():
            if row.kind in ("tp", "fp"):
                starts_s = found["window_start_s"]
                inside_s = np.minimum(row.t_max, starts_s + 1) - np.maximum(row.t_min, starts_s)
                half = inside_s >= (row.t_max - row.t_min) / 2
                known[half, [2, 5, 9].index(row.species_id)] = True
        weights.append(np.where(known, 0, 0.5))
    soft = PseudoLabelledRows(
        np.concatenate(embeddings),
        np.concatenate([np.transpose(p) for p in probability]),
        np.concatenate(weights),
    )
    expected = fit_fold(windows, 1, LOSS, config.c, soft).probability(windows.features)
    found = MaskedRegressions.load(run.weights(1)).probability(windows.features)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    untaught = MaskedRegressions.load(listener.weights(1)).probability(windows.features)
    assert np.abs(found - untaught).max() > 0.01


def test_recordings_of_one_name_are_not_taken_for_each_other(tmp_path):
    places = [{"r": AudioSource(tmp_path / site / "r.wav")} for site in ("a", "b")]
    stores = [EmbeddingStore(tmp_path, "key", {"r": np.empty((0, 2))}, place) for place in places]
    nothing = np.empty(0, np.float32)
    stores[0].write("r", RecordingEmbeddings(nothing, nothing, nothing, nothing))
    assert stores[0].read("r") is not None
    assert stores[1].read("r") is None


def test_labels_without_windows_do_not_teach(tone_model, tiny_shards, run_copy):
    train_it = (tone_model, CONFIG, tiny_shards, run_copy)
    text = refused(
        lambda: train_listener(*train_it, pseudo=PseudoLabels(tiny_shards), progress=False)
    )
    assert f"{tiny_shards}/windows holds none" in text
    # Nothing of what was trained before is gone.
    assert ListenerRun.open(run_copy).finished_folds == [0, 1]


def test_shards_that_were_made_again_are_not_taken_for_the_first(
    own_run, listener, tiny_shards, tmp_path
):
    shutil.copytree(tiny_shards, tmp_path / "shards")
    write_manifest(replace(read_manifest(tiny_shards), shards_id="again"), tmp_path / "shards")
    moved = RunFolder(
        own_run.path, own_run.config, replace(own_run.info, tfrecords=str(tmp_path / "shards"))
    )
    assert "now holds again" in refused(held_out_windows, [moved, listener], ["tiny00"])


def test_labels_of_other_classes_do_not_teach(tone_model, tiny_shards, run_copy, tmp_path):
    shutil.copytree(tiny_shards, tmp_path / "labels")
    manifest = read_manifest(tmp_path / "labels")
    classes = [replace(c, species_id=c.species_id + 1) for c in manifest.classes]
    write_manifest(replace(manifest, classes=classes), tmp_path / "labels")
    text = refused(
        lambda: train_listener(
            tone_model,
            CONFIG,
            tiny_shards,
            run_copy,
            pseudo=PseudoLabels(tmp_path / "labels"),
            progress=False,
        )
    )
    assert "Pseudo-labels must be of the classes of the shards" in text


@pytest.fixture(scope="module")
def windows(listener, tiny_shards):
    reader = ShardReader(tiny_shards)
    rows = reader.index
    boxes_s = {str(n): r[["t_min", "t_max"]].to_numpy() for n, r in rows.groupby("recording_id")}
    key = f"{listener.info.model_hash} {CONFIG.embedding_fingerprint}"
    store = EmbeddingStore(listener.path / "embeddings", key, boxes_s)
    of = reader.manifest
    return annotated_windows(store, rows, of, _labeller(rows, of, 1.0))


@pytest.mark.parametrize("fold", [0, 1])
def test_nothing_of_held_out_recordings_is_fitted_on(listener, tiny_shards, windows, fold):
    index = ShardReader(tiny_shards).index
    centred = windows.rows != NO_ROW
    assert sorted(windows.rows[centred]) == index.index.to_list()
    np.testing.assert_array_equal(index["fold"][windows.rows[centred]], windows.folds[centred])
    held_out = windows.folds == fold
    spoilt = np.where(held_out[:, np.newaxis], np.nan, windows.features)
    other = fit_fold(replace(windows, features=spoilt), fold, LOSS, CONFIG.c)
    head = fit_fold(windows, fold, LOSS, CONFIG.c)
    np.testing.assert_array_equal(other.coefficients, head.coefficients)
    np.testing.assert_array_equal(other.mean, head.mean)
    # And it is what the run keeps.
    probability = head.probability(windows.features[held_out & centred]).numpy()
    table = pd.read_csv(listener.fold(fold) / "oof_crops.csv")
    np.testing.assert_allclose(table[COLUMNS], probability, atol=1e-6)


def test_unknown_labels_count_only_by_their_weight(windows):
    spoilt = replace(windows, target=np.where(windows.known > 0, windows.target, 1))
    masked = LossConfig(unknown_negative_weight=0)
    one, other = (fit_fold(w, 0, masked, CONFIG.c) for w in (windows, spoilt))
    np.testing.assert_array_equal(one.coefficients, other.coefficients)
    weakly = fit_fold(windows, 0, LOSS, CONFIG.c)
    assert np.abs(weakly.coefficients - one.coefficients).max() > 1e-3


def test_a_fold_that_leaves_nothing_to_train_on_is_refused(windows):
    alone = replace(windows, folds=np.zeros_like(windows.folds))
    assert "Held out fold 0, the others have none." in refused(fit_fold, alone, 0, LOSS, CONFIG.c)


# What it keeps


def test_the_run_is_as_our_own_runs_are(listener, own_run, tiny_data, tiny_shards):
    assert listener.finished_folds == [0, 1]
    assert listener.info.classes == own_run.info.classes
    assert (listener.info.folds, listener.info.fold_seed) == (2, 0)
    assert listener.info.shards_id == read_manifest(tiny_shards).shards_id
    assert "scikit-learn" in listener.info.versions
    for name in ("oof_crops.csv", "oof_scores.csv"):
        mine, theirs = (pd.read_csv(run.path / name, dtype=str) for run in (listener, own_run))
        assert mine.columns.to_list() == theirs.columns.to_list()
        if name == "oof_crops.csv":
            same = ["recording_id", "fold", "kind", "species_id", "t_min", "t_max"]
            pd.testing.assert_frame_equal(mine[same], theirs[same])
        else:
            assert sorted(mine["recording_id"]) == sorted(theirs["recording_id"])
    truth = pd.read_csv(tiny_data / "train_truth.csv")
    scores = read_scores(listener.path / "oof_scores.csv").set_index("recording_id")
    # Two of three species are present in every recording: LRAP is LWLRAP.
    ordered = scores.loc[truth["recording_id"], COLUMNS]
    expected = label_ranking_average_precision_score(truth[COLUMNS], ordered)
    truth = truth.astype(dict.fromkeys(COLUMNS, bool))
    crops, recordings = evaluate_run(open_run(listener.path), truth)
    assert recordings.lwlrap == pytest.approx(expected)
    assert expected > 0.95  # chance: 0.81
    assert crops["fold"].to_list() == ["0", "1", "all"]


def test_a_stopped_training_goes_on_where_it_was(
    tone_model, tiny_shards, tmp_path, counted, monkeypatch
):
    write = EmbeddingStore.write
    written = []

    def stop_at_the_fourth(self, name, found):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(name)
        write(self, name, found)

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingStore, "write", stop_at_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            train(tone_model, tiny_shards, tmp_path / "run")
    assert ListenerRun.open(tmp_path / "run").finished_folds == []
    counted.clear()
    assert train(tone_model, tiny_shards, tmp_path / "run")[1] == []
    assert sorted(counted + written) == [f"tiny{number:02d}" for number in range(10)]


def test_only_what_is_missing_or_damaged_is_listened_to_again(
    listener, run_copy, tone_model, tiny_shards, counted
):
    before = read_scores(run_copy / "oof_scores.csv")
    (run_copy / "embeddings" / "tiny03.npz").unlink()
    (run_copy / "embeddings" / "tiny07.npz").write_bytes(b"PK damaged")
    train(tone_model, tiny_shards, run_copy)
    assert sorted(counted) == ["tiny03", "tiny07"]
    pd.testing.assert_frame_equal(read_scores(run_copy / "oof_scores.csv"), before)
    counted.clear()
    # Another regression needs no listening, and its heads take the place of the earlier ones.
    train(tone_model, tiny_shards, run_copy, CONFIG.model_copy(update={"c": 0.001}))
    assert counted == []
    assert ListenerRun.open(run_copy).config.c == 0.001
    assert (
        np.abs(read_scores(run_copy / "oof_scores.csv")[COLUMNS] - before[COLUMNS]).max().max()
        > 0.01
    )


def test_heads_of_another_config_never_pass_for_finished(run_copy, tone_model, tiny_shards):
    other = CONFIG.model_copy(update={"c": 0.001})
    manifest = read_manifest(tiny_shards)
    run = ListenerRun.create(
        run_copy, other, tone_model, hash_model(tone_model), manifest, tiny_shards
    )
    assert run.finished_folds == []
    assert ListenerRun.open(run_copy).config == other


def test_embeddings_of_other_rows_or_another_model_are_not_used(tmp_path):
    boxes_s = {"a": np.array([[0.5, 1.0]])}
    found = RecordingEmbeddings(*(np.ones(1, np.float32) for _ in range(4)))
    EmbeddingStore(tmp_path, "key", boxes_s).write("a", found)
    assert EmbeddingStore(tmp_path, "key", boxes_s).read("a") is not None
    assert EmbeddingStore(tmp_path, "other key", boxes_s).read("a") is None
    moved = {"a": np.array([[0.5, 1.1]])}
    assert EmbeddingStore(tmp_path, "key", moved).read("a") is None


def test_a_run_that_began_otherwise_is_refused(
    listener, tone_model, tiny_shards, tmp_path, counted
):
    def text(model=tone_model, shards=tiny_shards, run=listener.path, config=CONFIG):
        return refused(train, model, shards, run, config)

    slower = CONFIG.model_copy(update={"hop_s": 1.0, "c": 3.0})
    assert f"{listener.path} began with hop_s = 0.5, not 1.0." in text(config=slower)
    other_model = tmp_path / "other.tflite"
    other_model.write_bytes(tone_model.read_bytes() + bytes(4))
    assert "the model that it began with" in text(model=other_model)
    other_shards = Path(shutil.copytree(tiny_shards, tmp_path / "shards"))
    write_manifest(replace(read_manifest(tiny_shards), shards_id="other"), other_shards)
    assert "the shards that it began with" in text(shards=other_shards)
    assert "holds something else" in text(run=tiny_shards)
    assert counted == []
    assert ListenerRun.open(listener.path).finished_folds == [0, 1]


# Where it goes


def score(run, waveform, folds=None):
    """Scores and window scores of one waveform [samples]."""
    scorer = load_scorer(run, folds)
    return score_blocks(scorer, iter([{scorer.card.sample_rate_hz: waveform}]))


def test_a_model_scores_the_maximum_over_windows_averaged_over_folds(
    listener, tone_model, tiny_data
):
    waveform = read_audio(tiny_data / "train" / "tiny04.flac", 16000)
    card = load_scorer(listener).card
    assert (card.sample_rate_hz, card.window_s) == (16000, 1.0)
    assert list(card.classes) == listener.info.classes
    outputs = score(listener, waveform)
    start_s = np.arange(11) / 2
    embeddings = EmbeddingModel.open(tone_model, CONFIG).embed(
        np.stack([waveform[8000 * i : 8000 * i + 16000] for i in range(11)])
    )
    heads = [np.load(listener.weights(fold)) for fold in (0, 1)]
    by_fold = []
    for head in heads:
        standardised = (embeddings - head["mean"]) / head["scale"]
        by_fold.append(1 / (1 + np.exp(-standardised @ head["coefficients"] - head["intercepts"])))
    expected = np.mean([windows.max(axis=0) for windows in by_fold], axis=0)
    np.testing.assert_allclose(outputs.scores, expected, atol=1e-5)
    np.testing.assert_allclose(outputs.window_scores, np.mean(by_fold, 0), atol=1e-5)
    np.testing.assert_allclose(card.centres_s(len(start_s))[:, 0], start_s + 0.5)
    assert outputs.scores.dtype == outputs.window_scores.dtype == np.float32
    # The fold that held it out gives what the table has.
    fold = read_manifest(Path(listener.info.tfrecords)).recordings["tiny04"]["fold"]
    held_out = score(listener, waveform, [fold]).scores
    table = read_scores(listener.path / "oof_scores.csv").set_index("recording_id")
    np.testing.assert_allclose(held_out, table.loc["tiny04", COLUMNS].to_numpy(float), atol=1e-6)


def test_own_runs_and_listeners_predict_together(own_run, listener, tiny_data):
    recording = {"tiny02": tiny_data / "train" / "tiny02.flac"}
    both = load_together([own_run, listener], [0.75, 0.25])
    found = predict_recordings(both, recording).scores
    own = score(own_run, read_audio(recording["tiny02"], 8000)).scores
    heard = score(listener, read_audio(recording["tiny02"], 16000)).scores
    np.testing.assert_allclose(found[COLUMNS].to_numpy()[0], 0.75 * own + 0.25 * heard, atol=1e-5)
    assert np.abs(own - heard).max() > 0.05


def test_a_recording_is_heard_alike_in_whatever_pieces_it_comes(listener, tiny_data):
    waveform = read_audio(tiny_data / "train" / "tiny02.flac", 16000)[:-1234]
    expected = score(listener, waveform)
    blocks = ({16000: piece} for piece in np.array_split(waveform, 9))
    heard = score_blocks(load_scorer(listener), blocks)
    np.testing.assert_allclose(heard.window_scores, expected.window_scores, atol=1e-6)
    np.testing.assert_allclose(heard.scores, expected.scores, atol=1e-6)


def test_what_was_heard_in_training_is_not_heard_again(listener, tiny_data):
    """The kept embeddings stand for the recording, whatever is pushed."""
    waveform = read_audio(tiny_data / "train" / "tiny02.flac", 16000)
    expected = score(listener, waveform)
    silence = {16000: np.zeros(16000, np.float32)}
    for shards_id, is_kept in ((listener.info.shards_id, True), ("others", False)):
        stream = load_scorer(listener, shards_id=shards_id).stream("tiny02")
        stream.push(silence)
        found = stream.finish()
        assert (found.window_scores.shape == expected.window_scores.shape) == is_kept
    np.testing.assert_allclose(expected.scores, score(listener, waveform).scores)


def test_members_join_with_those_of_our_own(own_run, listener):
    held_out = read_held_out([own_run, listener])
    assert [member["run"] for member in held_out.members] == ["own", "run"]
    assert len(held_out.crops) == 40
    assert held_out.left_out_crops == [0, 0]
    assert held_out.member_scores.shape == (2, 40, 3)
    assert len(held_out.recordings) == 10


def test_an_ensemble_of_windows_is_tried_on_what_was_held_out(
    own_run, listener, tiny_data, tmp_path, run_script
):
    manifest = read_manifest(Path(own_run.info.tfrecords))
    runs, names = [own_run, listener], sorted(manifest.recordings)
    windows = held_out_windows(runs, names, progress=False)
    assert sorted(windows) == names
    assert list(held_out_windows(runs, names[:1], progress=False)) == names[:1]
    found = pd.DataFrame(highest_windows(windows, names, np.full((10, 2), 0.5)), names, COLUMNS)
    for fold in (0, 1):
        name, source = next(iter(manifest.audio_sources(fold).items()))
        mine = score(own_run, read_audio(source, 8000), [fold]).window_scores
        theirs = score(listener, read_audio(source, 16000), [fold]).window_scores
        # Windows of 1.024 s every 0.256 s; of 1 s every 0.5 s.
        middles_s = np.arange(len(mine)) * 0.256 + 0.512
        others_s = np.arange(len(theirs)) * 0.5 + 0.5
        both = [
            np.interp(middles_s, others_s, their) + my
            for their, my in zip(theirs.T, mine.T, strict=True)
        ]
        expected = np.max(both, axis=1) / 2
        np.testing.assert_allclose(found.loc[name], expected, atol=1e-5)
    alone = highest_windows(windows, names[:1], np.array([0.0, 1.0]))[0]
    np.testing.assert_allclose(alone, windows[names[0]][1].max(axis=0), atol=1e-6)
    command = ("ensemble", "--run", own_run.path, listener.path, "--out", tmp_path / "w.yaml")
    refusal = run_script(*command, "--windows")
    assert refusal.returncode == 2 and "take a --truth" in refusal.stderr
    truth = tiny_data / "train_truth.csv"
    result = run_script(*command, "--windows", "--truth", truth)
    assert result.returncode == 0, result.stderr
    scores = found.rename_axis("recording_id").reset_index()
    expected = evaluate_scores(scores, read_truth(truth)).lwlrap
    line = next(
        k for k in result.stdout.splitlines() if k.startswith("| all, equal weights of win")
    )
    assert line.split("|")[-2].strip() == f"{expected:.4f}"


def test_settings_of_prediction_are_for_own_runs(own_run, listener):
    overrides = ["prediction.running_mean_s=3"]
    own, _ = open_runs([own_run.path, listener.path], overrides)
    assert own.config.prediction.running_mean_s == 3
    assert "nothing to set" in refused(open_runs, [listener.path], overrides)


def load(path):
    return load_scorer(open_run(path))


def test_runs_that_cannot_be_used_are_refused(
    listener, run_copy, own_run, tone_model, tiny_shards, tmp_path
):
    check_exportable([own_run, listener])
    text = refused(lambda: check_exportable([own_run, listener], litert=True))
    assert f"{listener.path} is a listener" in text and "LiteRT files" in text
    assert "is not one" in refused(open_run, tmp_path)
    (run_copy / "fold0" / "head.npz").unlink()
    (run_copy / "fold1" / "head.npz").write_bytes(b"")
    assert ListenerRun.open(run_copy).finished_folds == [1]
    assert "cannot be loaded" in refused(load, run_copy)
    (run_copy / "fold1" / "head.npz").unlink()
    assert "at least one finished fold" in refused(load, run_copy)
    assert "at least one finished fold" in refused(evaluate_run, ListenerRun.open(run_copy))
    moving = tmp_path / "moving.tflite"
    shutil.copy(tone_model, moving)
    train(moving, tiny_shards, run_copy)
    moving.rename(tmp_path / "moved.tflite")
    assert f"Not found: {moving}. Put it there" in refused(load, run_copy)
    # The same model elsewhere is enough.
    train(tmp_path / "moved.tflite", tiny_shards, run_copy)
    assert load(run_copy).card.hop_s == 0.5
    (tmp_path / "moved.tflite").write_bytes(b"other")
    assert hash_model(tmp_path / "moved.tflite") in refused(load, run_copy)
    (run_copy / "listener.json").write_text("{}")
    assert "made by rfcx-tf train" in refused(open_run, run_copy)


def test_scripts_train_and_evaluate_and_list_what_cannot_be_read(
    tone_model, tiny_shards, tiny_data, tmp_path, run_script
):
    data = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    (data / "train" / "tiny05.flac").write_bytes(b"not a sound")
    listener_yaml, run = tmp_path / "tones.yaml", tmp_path / "run"
    values = {"kind": "listener"} | CONFIG.model_dump(exclude_none=True)
    listener_yaml.write_text("".join(f"{key}: {value}\n" for key, value in values.items()))
    result = run_script(
        *("train", "--config", listener_yaml, "--model", tone_model),
        *("--run", run, "--tfrecords", tiny_shards, "--data", data, "--set", "c=0.2"),
    )
    assert result.returncode == 1
    assert "Fold 1: fitted 3 of 3 classes on " in result.stdout
    assert f"Wrote {run}: " in result.stdout
    assert "Listened to 9 recordings" in result.stdout
    assert "Recordings without out-of-fold scores, 1 in all:" in result.stderr
    assert "tiny05.flac" in result.stderr.splitlines()[-1]
    assert ListenerRun.open(run).config.c == 0.2
    names = read_scores(run / "oof_scores.csv")["recording_id"]
    assert sorted(names) == [f"tiny{number:02d}" for number in range(10) if number != 5]
    truth = pd.read_csv(tiny_data / "train_truth.csv")
    truth[truth["recording_id"] != "tiny05"].to_csv(tmp_path / "truth.csv", index=False)
    result = run_script("evaluate", "--run", run, "--truth", tmp_path / "truth.csv")
    assert result.returncode == 0
    assert float(result.stdout.split("LWLRAP ")[1].split()[0]) > 0.9


def test_bad_input_is_refused_in_one_line(tone_model, tiny_shards, tmp_path, run_script):
    (tmp_path / "bad.yaml").write_text("kind: listener\nsample_rate_hz: 100\n")
    arguments = ["--config", tmp_path / "bad.yaml", "--model", tone_model]
    arguments += ["--tfrecords", tiny_shards, "--run", tmp_path / "run"]
    result = run_script("train", *arguments)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert "window_s: Field required" in line
