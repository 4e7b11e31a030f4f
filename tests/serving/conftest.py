"""A SavedModel of a few plain operations to serve."""

import pytest


@pytest.fixture(scope="session")
def write_tiny_model():
    """A function that writes a SavedModel: write(folder, scale=1.0).

    Windows are 100 samples at 1 kHz; a window's scores are the mean, highest and lowest sample of
    it times `scale`, a recording's the highest of its windows'. Signatures:
        serving_default  waveform float32 [batch, samples] -> scores [batch, 3],
                         window_scores [batch, windows, 3], window_start_s [windows]
        wav              wav string [] (a WAV file) -> the same
        average          values float32 [batch] -> average [], of the whole batch, doubled [batch]
        texts            texts string of any shape -> lengths int32, raw_bytes string of that shape
        nap              count int32 [] -> count, after 10 ms times that
    """
    import tensorflow as tf
    from tensorflow.python.data.experimental.ops.testing import sleep

    def write(folder, scale=1.0):
        module = tf.Module()
        module.scale = tf.Variable(scale)

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, "waveform")])
        def score(waveform):
            frames = tf.signal.frame(waveform, 100, 100)
            kinds = [f(frames, axis=2) for f in (tf.reduce_mean, tf.reduce_max, tf.reduce_min)]
            window_scores = tf.stack(kinds, axis=2) * module.scale
            return {
                "scores": tf.reduce_max(window_scores, axis=1),
                "window_scores": window_scores,
                "window_start_s": tf.cast(tf.range(tf.shape(frames)[1]), tf.float32) / 10,
            }

        @tf.function(input_signature=[tf.TensorSpec([], tf.string, "wav")])
        def wav(wav):
            return score(tf.audio.decode_wav(wav).audio[:, 0][None])

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "values")])
        def average(values):
            return {"average": tf.reduce_mean(values), "doubled": 2 * values}

        @tf.function(input_signature=[tf.TensorSpec(None, tf.string, "texts")])
        def texts(texts):
            return {"lengths": tf.strings.length(texts), "raw_bytes": tf.identity(texts)}

        @tf.function(input_signature=[tf.TensorSpec([], tf.int32, "count")])
        def nap(count):
            naps = tf.data.Dataset.range(tf.cast(count, tf.int64)).apply(sleep(10_000))
            ones = naps.reduce(0, lambda total, _: total + 1)
            return {"count": ones}

        module.functions = [score, wav, average, texts, nap]
        signatures = {"wav": wav, "average": average, "texts": texts, "nap": nap}
        tf.saved_model.save(module, str(folder), {"serving_default": score, **signatures})

    return write


@pytest.fixture(scope="session")
def tiny_model_folder(write_tiny_model, tmp_path_factory):
    """A folder with version 1 of the tiny model. Read only."""
    folder = tmp_path_factory.mktemp("served") / "tiny"
    write_tiny_model(folder / "1")
    return folder
