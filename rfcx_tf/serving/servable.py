"""What a SavedModel of ours holds: signatures that take recordings, and files that explain them.

exported/NAME/1/
  serving_default   waveform float32 [batch, samples] at the model's rate -> scores
                    [batch, classes], window_scores [batch, windows, classes], window_boxes [batch,
                    windows, classes, 4], window_start_s
                    [windows]; of a calibrated model also probabilities, window_probabilities
  batch             the same without window_start_s, so that every output is [batch, ...]:
                    what TensorFlow Serving asks for where it is to batch requests
  wav               bytes of WAV files, string [] or [batch] -> as serving_default, and class_names
                    [classes], the species in the order of the scores
  spectrogram       float32 [batch, frames, bands] -> as serving_default; not of a listener
  embedding         waveform -> embeddings [batch, D], window_embeddings [batch, windows, D]
  about             samples int32 [] -> windows int32 [], how many a recording of that length has,
                    and all that explains the rest, see `ServableModel.describe`
  assets/           card.json (`rfcx_tf.scoring.card`), classes.csv (column, species_id, name),
                    config.yaml; of a calibrated model calibration.yaml
  assets.extra/     tf_serving_warmup_requests

Recordings may have any length; one shorter than a window gets silence behind it, so that a request
may hold 64 at most. A waveform that is empty, not finite or not scaled to +-1 is refused, as are
WAV files of another rate.

Of an ensemble: the signature `spectrogram` only where all members have one front end; `embedding`
of the first member; in assets/ ensemble.yaml (rule; run, weight and config of every member) and
config0.yaml, config1.yaml, ... in the place of config.yaml.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tensorflow as tf
import yaml
from tensorflow.core.framework.tensor_pb2 import TensorProto

from rfcx_tf.core.config import save_config
from rfcx_tf.scoring.calibration import write_calibration
from rfcx_tf.scoring.detector import DetectorScorer
from rfcx_tf.scoring.ensemble import EnsembleScorer
from rfcx_tf.scoring.ensemble_weights import member_names
from rfcx_tf.scoring.listener import ListenerScorer
from rfcx_tf.serving.calibration_layer import calibrated
from rfcx_tf.serving.warmup import zeros
from rfcx_tf.serving.wav_decoder import check_number, check_waveform, decode_wav_batch


class ServableModel:
    """A scorer with its signatures and the files that explain its outputs.

    Attributes:
        signatures: what is served, functions by the name of the signature.
    """

    def __init__(self, scorer: DetectorScorer | ListenerScorer | EnsembleScorer, assets_dir: Path):
        """Writes the assets into a folder; saving copies them from there."""
        self._scorer = scorer
        self._card = scorer.card
        members = scorer.members if isinstance(scorer, EnsembleScorer) else [scorer]
        self._first = members[0]
        _write_assets(scorer, assets_dir)
        self._assets = sorted(assets_dir.iterdir())
        waveform = tf.TensorSpec([None, None], tf.float32, "waveform")
        # Of any rank: servers send one file alone as [], files in a list as [batch].
        wav = tf.TensorSpec(None, tf.string, "wav")
        # Traced once for all signatures that come to a waveform.
        self._traced_score = _trace(scorer.score_waveform, waveform)
        self.signatures = {
            "serving_default": _trace(self.score_waveform, waveform),
            "batch": _trace(self.score_batch, waveform),
            "wav": _trace(self.score_wav, wav),
            "embedding": _trace(self.embed_waveform, waveform),
            "about": _trace(self.describe, tf.TensorSpec([], tf.int32, "samples")),
        }
        one_front_end = len({member.card.frontend for member in members}) == 1
        if one_front_end and isinstance(self._first, DetectorScorer):
            bands = self._first.config.frontend.bands
            spectrogram = tf.TensorSpec([None, None, bands], tf.float32, "spectrogram")
            self.signatures["spectrogram"] = _trace(self.score_spectrogram, spectrogram)

    def save(self, path: Path) -> None:
        """Writes the SavedModel.

        Of detectors it holds the plain variables only. Had it the Keras models, their variables
        would be in it twice, and a session (TensorFlow Serving, C++, saved_model_cli) would restore
        only those that no function reads: "Could not find variable".
        """
        module = tf.Module()
        module.state = self._scorer.exported_state
        module.assets = [tf.saved_model.Asset(str(asset)) for asset in self._assets]
        tf.saved_model.save(module, str(path), self.signatures)

    def score_waveform(self, waveform) -> dict[str, tf.Tensor]:
        """Scores of waveforms [batch, samples], after a check."""
        waveform = check_number(waveform)
        check_waveform(waveform)
        return self._with_probabilities(self._traced_score(waveform))

    def score_batch(self, waveform) -> dict[str, tf.Tensor]:
        """The outputs of `score_waveform` that begin with the batch."""
        outputs = self.score_waveform(waveform)
        return {name: value for name, value in outputs.items() if name != "window_start_s"}

    def score_wav(self, wav) -> dict[str, tf.Tensor]:
        """Scores of WAV files, string [] or [batch], and class_names, string [classes].

        Whoever sends files by hand reads the answer. The other signatures give numbers alone, which
        XLA can compile and servers can batch; `about` says the names there.
        """
        waveform = decode_wav_batch(wav, self._card.sample_rate_hz)
        names = tf.constant([c.name for c in self._card.classes])
        return self._with_probabilities(self._traced_score(waveform)) | {"class_names": names}

    def score_spectrogram(self, spectrogram) -> dict[str, tf.Tensor]:
        """Scores of spectrograms [batch, frames, bands]."""
        return self._with_probabilities(self._scorer.scores(check_number(spectrogram)))

    def embed_waveform(self, waveform) -> dict[str, tf.Tensor]:
        """Embeddings of waveforms [batch, samples], of an ensemble by its first member."""
        waveform = check_number(waveform)
        check_waveform(waveform)
        return self._first.embed_waveform(waveform)

    def describe(self, samples) -> dict[str, tf.Tensor]:
        """What explains the numbers to a client, which cannot read the assets.

        Args:
            samples: int32 [], of a recording at the model's rate.

        Returns:
            windows int32 []: how many the recording has; card string []: `ModelCard.to_json`,
            which also holds all that follows; class_names string [classes],
            species_ids int32 [classes]; sample_rate_hz int32 []; window_s, hop_s float32 [];
            calibrated bool []; thresholds float32 [classes], from which probability on a species
            counts as detected, and score_thresholds, the same in scores (0.5 each where there is
            no calibration); calibration_score_logits and calibration_probability_logits float32
            [classes, knots] (no knots without a calibration); mean_box_s, low_hz, high_hz
            float32 [classes]: a call's usual length and band, NaN where unknown.
        """
        card = self._card
        knots = probability_knots = np.empty([len(card.classes), 0], np.float32)
        if card.calibration is not None:
            knots = card.calibration.score_logits
            probability_knots = card.calibration.probability_logits
        band_hz = np.float32(card.box_hz)
        constants = {
            "card": card.to_json(),
            "class_names": [c.name for c in card.classes],
            "species_ids": np.int32([c.species_id for c in card.classes]),
            "sample_rate_hz": np.int32(card.sample_rate_hz),
            "window_s": np.float32(card.window_s),
            "hop_s": np.float32(card.hop_s),
            "calibrated": card.calibration is not None,
            "thresholds": card.thresholds,
            "score_thresholds": card.score_thresholds,
            "calibration_score_logits": knots,
            "calibration_probability_logits": probability_knots,
            "mean_box_s": np.float32(card.mean_box_s),
            "low_hz": band_hz[:, 0],
            "high_hz": band_hz[:, 1],
        }
        outputs = {name: tf.constant(value) for name, value in constants.items()}
        return {"windows": self._first.window_count(samples), **outputs}

    def warmup_calls(self, lengths_s: Iterable[float]) -> list[tuple[str, str, TensorProto, str]]:
        """Calls of `write_warmup_requests`: one window for every signature, then waveforms of these
        lengths."""
        rate_hz = self._card.sample_rate_hz
        window = zeros([1, math.ceil(self._card.window_s * rate_hz)])
        # The shortest file there is: the model fills the window up with silence.
        wav = tf.audio.encode_wav(tf.zeros([1, 1]), rate_hz).numpy()
        inputs = {
            "serving_default": ("waveform", window, "scores"),
            "batch": ("waveform", window, "scores"),
            "wav": ("wav", tf.make_tensor_proto(wav), "scores"),
            "embedding": ("waveform", window, "embeddings"),
            "about": ("samples", tf.make_tensor_proto(np.int32(rate_hz)), "windows"),
        }
        if "spectrogram" in self.signatures:
            config = self._first.config
            frames = config.window_cells * config.model.backbone.stride[0]
            spectrogram = zeros([1, frames, config.frontend.bands])
            inputs["spectrogram"] = ("spectrogram", spectrogram, "scores")
        waveforms = [zeros([1, math.ceil(seconds * rate_hz)]) for seconds in lengths_s]
        calls = [(signature, *inputs[signature]) for signature in self.signatures]
        return calls + [("serving_default", "waveform", value, "scores") for value in waveforms]

    def _with_probabilities(self, outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        calibration = self._card.calibration
        if calibration is None:
            return outputs
        return {
            **outputs,
            "probabilities": calibrated(outputs["scores"], calibration),
            "window_probabilities": calibrated(outputs["window_scores"], calibration),
        }


def _trace(function, spec: tf.TensorSpec) -> tf.types.experimental.PolymorphicFunction:
    # AutoGraph takes two thirds of an export's time, and no Python here branches on tensors.
    return tf.function(function, [spec], autograph=False)


def _write_assets(scorer: DetectorScorer | ListenerScorer | EnsembleScorer, folder: Path) -> None:
    card = scorer.card
    (folder / "card.json").write_text(card.to_json() + "\n", encoding="utf-8")
    with (folder / "classes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["column", "species_id", "name"])
        for column, species in zip(card.columns, card.classes, strict=True):
            writer.writerow([column, species.species_id, species.name])
    if card.calibration is not None:
        write_calibration(card.calibration, folder / "calibration.yaml")
    if not isinstance(scorer, EnsembleScorer):
        save_config(scorer.config, folder / "config.yaml")
        return
    names = member_names([member.card.made_by for member in scorer.members])
    members = []
    for number, member in enumerate(scorer.members):
        config = f"config{number}.yaml"
        save_config(member.config, folder / config)
        members.append({"run": names[number], "weight": scorer.weights[number], "config": config})
    text = yaml.safe_dump({"rule": scorer.rule, "members": members}, sort_keys=False)
    (folder / "ensemble.yaml").write_text(text, encoding="utf-8")
