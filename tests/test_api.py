"""The way in from Python: every kind of model gives what the command line gives."""

import numpy as np
import pytest
import soundfile

import rfcx_tf
from rfcx_tf.scoring.load import load_scorer
from rfcx_tf.scoring.predict import predict_recordings


@pytest.fixture(scope="module")
def sound(tiny_data):
    return tiny_data / "train" / "tiny03.flac"


@pytest.fixture(scope="module")
def model(untrained_run):
    return rfcx_tf.load(untrained_run.path)


def test_public_names_are_there():
    for name in rfcx_tf.__all__:
        assert getattr(rfcx_tf, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        rfcx_tf.missing  # noqa: B018


def test_a_run_gives_scores_windows_and_events(untrained_run, model, sound):
    expected = predict_recordings(load_scorer(untrained_run), {"a": sound}).scores
    scores = model.scores(sound)
    assert scores.is_monotonic_decreasing
    by_column = [scores[species.name] for species in model.card.classes]
    np.testing.assert_allclose(by_column, expected[model.card.columns].to_numpy()[0], atol=1e-6)
    windows = model.windows(sound)
    np.testing.assert_allclose(windows[model.card.columns].max(), by_column, atol=1e-6)
    np.testing.assert_allclose(windows["end_s"] - windows["start_s"], model.card.window_s)
    events = model.events(sound, threshold=float(windows[model.card.columns].min().min()))
    assert set(events["species"]) == {species.name for species in model.card.classes}
    assert model.events(sound, threshold=1.0).empty
    figure = rfcx_tf.draw(sound, events, begin_s=1.0, end_s=4.0)
    pictured = (events["start_s"] < 4.0) & (events["end_s"] > 1.0)
    assert len(figure.axes[0].patches) == pictured.sum() > 0


def test_samples_are_scored_as_their_file(model, sound):
    samples, rate_hz = soundfile.read(sound, dtype="float32")
    np.testing.assert_allclose(model.scores(samples, rate_hz), model.scores(sound), atol=1e-6)
    for wrong, rate, reason in (
        (samples, None, "with their sample_rate_hz"),
        ((samples * 32767).astype(np.int16), rate_hz, "within"),
        (samples * np.nan, rate_hz, "not finite"),
        (samples[:0], rate_hz, "no samples"),
    ):
        with pytest.raises(rfcx_tf.UserError, match=reason):
            model.scores(wrong, rate)


def test_an_exported_model_and_an_ensemble_open_likewise(untrained_run, model, sound, tmp_path):
    from rfcx_tf.serving.servable import ServableModel

    (tmp_path / "assets").mkdir()
    servable = ServableModel(load_scorer(untrained_run), tmp_path / "assets")
    # What is asked for here; tracing the others takes time.
    servable.signatures = {name: servable.signatures[name] for name in ("serving_default", "about")}
    servable.save(tmp_path / "exported" / "1")
    exported = rfcx_tf.load(tmp_path / "exported")
    assert exported.card.replace(made_by="") == model.card.replace(made_by="")
    np.testing.assert_allclose(exported.scores(sound), model.scores(sound), atol=1e-6)
    both = rfcx_tf.load(untrained_run.path, tmp_path / "exported")
    np.testing.assert_allclose(both.scores(sound), model.scores(sound), atol=1e-6)


def test_what_is_no_model_is_refused(tmp_path):
    for where, reason in (((), "none"), ((tmp_path,), "is not one"), (("http://h:1",), "model=")):
        with pytest.raises(rfcx_tf.UserError, match=reason):
            rfcx_tf.load(*where)


def test_a_run_listens_to_the_channel_of_its_recipe(write_random_run, tiny_config, sound, tmp_path):
    values = tiny_config.model_dump() | {"audio": {"channel": "1"}}
    run = write_random_run(tmp_path / "run", type(tiny_config).model_validate(values), folds=[0])
    samples, rate_hz = soundfile.read(sound)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, len(samples))
    stereo = tmp_path / "stereo.flac"
    soundfile.write(stereo, np.stack([noise, samples], axis=1), rate_hz)
    wanted = rfcx_tf.load(run.path, channel="mean").scores(sound)
    found = rfcx_tf.load(run.path).scores(stereo)
    np.testing.assert_allclose(found[wanted.index], wanted, atol=1e-6)
    first = rfcx_tf.load(run.path, channel="0").scores(stereo)
    assert np.abs(first[wanted.index] - wanted).max() > 1e-3
