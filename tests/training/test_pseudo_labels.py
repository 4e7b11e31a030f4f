"""Who labels which recording, and what a folder of labels holds."""

import numpy as np
import pytest

from rfcx_tf.audio.decode import AudioSource
from rfcx_tf.core.errors import UserError
from rfcx_tf.shards.pseudo_folder import PseudoLabels, names_with_windows, read_probability
from rfcx_tf.shards.records import ShardReader, parse_crop
from rfcx_tf.training.pseudo.labelling_runs import LabellingRuns
from rfcx_tf.training.pseudo.labels import write_pseudo_labels, write_pseudo_labels_per_fold


def labels_of(folder):
    """Soft targets [crops, classes] and folds [crops] of a folder of labels."""
    reader = ShardReader(folder)
    crops = [parse_crop(reader[row]) for row in range(len(reader.index))]
    return np.array([c["soft_target"] for c in crops]), reader.index["fold"].to_numpy()


def test_a_recording_is_labelled_by_the_detectors_that_held_it_out(
    tiny_shards, tiny_data, pseudo_recipe, tmp_path, fake_teacher
):
    reader = ShardReader(tiny_shards)
    runs = [fake_teacher(tmp_path / "a", reader.manifest.classes)]
    extra = {"elsewhere": AudioSource(tiny_data / "train" / "tiny00.flac")}
    manifest = write_pseudo_labels(
        LabellingRuns(runs, None, None),
        reader,
        pseudo_recipe,
        tmp_path / "labels",
        extra=extra,
        progress=False,
    )
    target, folds = labels_of(tmp_path / "labels")
    assert set(folds) == {-1, 0, 1}
    for fold, level in ((0, 0.1), (1, 0.2), (-1, 0.15)):
        np.testing.assert_allclose(target[folds == fold], level, rtol=1e-6)
    assert manifest.counts["pseudo"] == len(folds)
    # Every window is kept beside the crops: 64 frames of 0.016 s, 32 apart.
    centres_s, windows = read_probability(tmp_path / "labels", "tiny00")
    count = 1 + (376 - 64) // 32
    assert windows.shape == (count, 3)
    np.testing.assert_allclose(centres_s, 0.512 + 0.512 * np.arange(count), rtol=1e-5)


def test_a_single_fold_is_taught_by_its_own_detectors_alone(
    tiny_shards, pseudo_recipe, tmp_path, fake_teacher
):
    reader = ShardReader(tiny_shards)
    runs = [fake_teacher(tmp_path / "a", reader.manifest.classes, finished_folds=[1])]
    group = LabellingRuns(runs, None, 1)
    group.check_folds(range(2), reader.manifest)
    write_pseudo_labels(group, reader, pseudo_recipe, tmp_path / "labels", extra={}, progress=False)
    target, folds = labels_of(tmp_path / "labels")
    # Its student does not learn from fold 1.
    assert set(folds) == {0}
    np.testing.assert_allclose(target, 0.2, rtol=1e-6)


def test_every_fold_has_labels_of_its_own(
    tiny_shards, tiny_data, pseudo_recipe, tmp_path, fake_teacher
):
    reader, out = ShardReader(tiny_shards), tmp_path / "labels"
    group = LabellingRuns([fake_teacher(tmp_path / "a", reader.manifest.classes)], None, None)
    extra = {"elsewhere": AudioSource(tiny_data / "train" / "tiny00.flac")}

    def label(folds, **options):
        arguments = {"extra": extra, "progress": False, "report": lambda line: None} | options
        return write_pseudo_labels_per_fold(group, reader, pseudo_recipe, out, folds, **arguments)

    label([0])
    first = PseudoLabels(out)
    label([0, 1])
    labels = PseudoLabels(out)
    # Those of one fold are those of all: the folds of a run can be trained one by one.
    assert labels.id == first.id
    for fold, level in ((0, 0.1), (1, 0.2)):
        target, folds = labels_of(labels.of_fold(fold).folder)
        assert set(folds) == {-1, 1 - fold}
        np.testing.assert_allclose(target, level, rtol=1e-6)
    with pytest.raises(UserError, match=r"holds .*Name another --out"):
        label([0], extra={})
    with pytest.raises(UserError, match="has none for fold 2"):
        labels.of_fold(2)
    # Clean labels and others are never taken for each other.
    alike = write_pseudo_labels(group, reader, pseudo_recipe, tmp_path / "alike", extra=extra)
    assert alike.shards_id != labels.id


def test_annotated_recordings_are_not_taken_for_others(
    tiny_shards, tiny_data, pseudo_recipe, tmp_path, fake_teacher
):
    reader = ShardReader(tiny_shards)
    group = LabellingRuns([fake_teacher(tmp_path / "a", reader.manifest.classes)], None)
    name = next(iter(reader.manifest.audio_sources(0)))
    extra = {name: AudioSource(tiny_data / "train" / f"{name}.flac")}
    options = {"extra": extra, "progress": False}
    own = write_pseudo_labels(group.of_fold(0), reader, pseudo_recipe, tmp_path / "own", **options)
    assert name not in own.recordings
    alike = write_pseudo_labels(group, reader, pseudo_recipe, tmp_path / "alike", **options)
    assert alike.recordings[name]["fold"] == 0


def test_a_recording_that_is_cut_short_is_labelled_as_far_as_it_goes_and_listed(
    tiny_shards, tiny_data, pseudo_recipe, tmp_path, fake_teacher
):
    reader, cut = ShardReader(tiny_shards), tmp_path / "cut.flac"
    cut.write_bytes((tiny_data / "train" / "tiny00.flac").read_bytes()[:-20_000])
    group = LabellingRuns([fake_teacher(tmp_path / "a", reader.manifest.classes)], None)
    options = {"extra": {"cut": AudioSource(cut)}, "progress": False}
    for _ in range(2):
        made = write_pseudo_labels(group, reader, pseudo_recipe, tmp_path / "labels", **options)
        (line,) = made.skipped
        assert f"{cut} is cut short at" in line
    whole = len(read_probability(tmp_path / "labels", "tiny00")[0])
    assert 0 < len(read_probability(tmp_path / "labels", "cut")[0]) < whole


def test_labels_for_all_folds_alike_are_not_mixed_with_others(
    tiny_shards, pseudo_recipe, tmp_path, fake_teacher
):
    reader, out = ShardReader(tiny_shards), tmp_path / "labels"
    group = LabellingRuns([fake_teacher(tmp_path / "a", reader.manifest.classes)], None, None)
    manifest = write_pseudo_labels(group, reader, pseudo_recipe, out, extra={}, progress=False)
    labels = PseudoLabels(out)
    assert labels.id == manifest.shards_id
    assert labels.of_fold(0) is labels.of_fold(1)
    with pytest.raises(UserError, match="holds labels for all folds alike"):
        write_pseudo_labels_per_fold(
            group, reader, pseudo_recipe, out, [0], extra={}, progress=False
        )


@pytest.mark.parametrize("content", ["", "[]", '{"other": 1}'])
def test_damaged_labels_are_refused_in_one_line(content, tmp_path):
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(UserError, match="Label again"):
        PseudoLabels(tmp_path)
    (tmp_path / "windows").mkdir()
    (tmp_path / "windows" / "r.npz").write_text(content)
    (tmp_path / "windows" / ".1a2b3c4d.r.npz").write_text(content)
    assert names_with_windows(tmp_path) == ["r"]
    with pytest.raises(UserError, match=r"r\.npz cannot be read"):
        read_probability(tmp_path, "r")
    assert read_probability(tmp_path, "other") is None


def test_teachers_are_averaged_by_their_weights(tiny_shards, pseudo_recipe, tmp_path, fake_teacher):
    reader = ShardReader(tiny_shards)
    classes = reader.manifest.classes
    runs = [fake_teacher(tmp_path / "a", classes, [0]), fake_teacher(tmp_path / "b", classes, [1])]
    group = LabellingRuns(runs, [0.25, 0.75], None)
    group.load([-1], reader.manifest.shards_id)
    probability = group.scorer(-1).stream().finish().window_scores
    np.testing.assert_allclose(probability, 0.25 * 0.1 + 0.75 * 0.2, rtol=1e-6)


def test_a_teacher_without_a_fold_is_refused(tiny_shards, tmp_path, fake_teacher):
    manifest = ShardReader(tiny_shards).manifest
    teacher = fake_teacher(tmp_path / "a", manifest.classes, [0])
    with pytest.raises(UserError, match=r"a lacks 1\..*--fold"):
        LabellingRuns([teacher], None).check_folds(range(2), manifest)
    # Other folds would have seen what is held out here.
    teacher.folds_and_seed = (2, 7)
    with pytest.raises(UserError, match=r"a has training\.folds 2 and training\.fold_seed 7"):
        LabellingRuns([teacher], None).check_folds([0], manifest)


def test_labels_of_other_teachers_never_share_a_folder(
    tiny_shards, pseudo_recipe, tmp_path, fake_teacher
):
    reader = ShardReader(tiny_shards)
    runs = [fake_teacher(tmp_path / "a", reader.manifest.classes)]
    out = tmp_path / "labels"
    write_pseudo_labels(
        LabellingRuns(runs, None, None), reader, pseudo_recipe, out, extra={}, progress=False
    )
    (tmp_path / "a" / "oof_scores.csv").write_text("recording_id,s2\nx,0.5\n")
    with pytest.raises(UserError, match="holds those of another"):
        write_pseudo_labels(
            LabellingRuns(runs, None, None), reader, pseudo_recipe, out, extra={}, progress=False
        )
