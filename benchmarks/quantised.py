"""What storing spectrograms in 16 or 8 bits does to a trained run's scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.options import Options
from rfcx_tf.audio.decode import read_audio
from rfcx_tf.core.errors import UserError
from rfcx_tf.runs.run import RunFolder
from rfcx_tf.shards.records import read_manifest

_LEVELS = 255


def levels_of(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Values as 256 equal steps between the lowest and the highest: uint8, lowest, step."""
    low, high = float(values.min()), float(values.max())
    step = (high - low) / _LEVELS or 1.0
    return np.round((values - low) / step).astype(np.uint8), low, step


def through_float16(spectrogram: np.ndarray) -> np.ndarray:
    """What a shard gives back of a spectrogram."""
    return spectrogram.astype(np.float16).astype(np.float32)


def through_uint8(spectrogram: np.ndarray, crop_frames: int) -> np.ndarray:
    """The same if shards held bytes, with a range of their own for every stored crop."""
    pieces = []
    for begin in range(0, len(spectrogram), crop_frames):
        levels, low, step = levels_of(spectrogram[begin : begin + crop_frames])
        pieces.append(low + step * levels.astype(np.float32))
    return np.concatenate(pieces)


def quantisation_scores(options: Options) -> dict[str, dict[str, float]]:
    """Held-out recordings of a run, scored from spectrograms as they are and as stored.

    Returns:
        By storage (float32, float16, uint8): the mean absolute difference of recording scores
        to float32, and with a truth file the LWLRAP.

    Raises:
        UserError: if the run's shards, or their recordings, are not there.
    """
    import tensorflow as tf

    from rfcx_tf.evaluation.recordings import evaluate_scores
    from rfcx_tf.scoring.detector import load_recording_model
    from rfcx_tf.scoring.score_table import read_truth

    run = RunFolder.open(options.run)
    config = run.config
    stored_frames = config.crop_frames + 2 * config.margin_frames
    manifest = read_manifest(run.info.tfrecords)
    rows: dict[str, list[np.ndarray]] = {"float32": [], "float16": [], "uint8": []}
    names: list[str] = []
    for fold in run.finished_folds:
        model = load_recording_model(run, [fold])
        hear = tf.function(model.spectrogram, [tf.TensorSpec([1, None], tf.float32)])
        score = tf.function(
            model.scores, [tf.TensorSpec([1, None, config.frontend.bands], tf.float32)]
        )
        sources = manifest.audio_sources(fold, options.data)
        for name, source in tqdm(sources.items(), desc=f"fold {fold}", disable=None):
            waveform = read_audio(source, config.frontend.sample_rate_hz)
            spectrogram = hear(waveform[None])[0].numpy()
            for storage, values in (
                ("float32", spectrogram),
                ("float16", through_float16(spectrogram)),
                ("uint8", through_uint8(spectrogram, stored_frames)),
            ):
                rows[storage].append(score(values[None])["scores"][0].numpy())
            names.append(name)
    if not names:
        raise UserError(f"--run needs a finished fold with recordings. {options.run} has none.")
    columns = [f"s{c.species_id}" for c in run.info.classes]
    figures: dict[str, dict[str, float]] = {}
    for storage, scores in rows.items():
        difference = np.abs(np.stack(scores) - np.stack(rows["float32"])).mean()
        figures[storage] = {"difference_of_scores": float(difference)}
        if options.truth:
            table = pd.DataFrame(np.stack(scores), columns=columns)
            table.insert(0, "recording_id", names)
            truth = read_truth(options.truth)
            truth = truth[truth["recording_id"].isin(names)]
            figures[storage]["lwlrap"] = evaluate_scores(table, truth).lwlrap
    return figures
