"""What a served model says of itself: its species, its sample rate, its windows, its calibration.

A model of scripts/export.py has a signature `about` for that. Without one, the sample rate and
the species must come from whoever calls; recordings are then sent whole, and there are scores but
no events.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass, read_species
from rfcx_tf.events.output import ScoredBy, WindowsOfModel
from rfcx_tf.scoring.calibration import Calibration
from rfcx_tf.scoring.served.pieces import PieceScores
from rfcx_tf.scoring.served.retries import RequestError, RetryRules, call_with_retries
from rfcx_tf.scoring.served.transport import Signature, Transport

_SCORES, _WINDOW_SCORES = "scores", "window_scores"
# A 16-bit sample k is k / 32768 in float32.
_STEPS_OF_16_BITS = 32768


@dataclass(frozen=True)
class WindowGrid:
    """The windows of a model and what else events need.

    Attributes:
        window_samples, hop_samples: length and distance of the windows.
        mean_box_s: mean box length by species id, for those that have one.
        box_hz: lower and upper bound of the boxes by species id, for those that have one.
        calibration: None where the model is not calibrated.
    """

    window_samples: int
    hop_samples: int
    mean_box_s: dict[int, float]
    box_hz: dict[int, tuple[float, float]]
    calibration: Calibration | None


@dataclass(frozen=True)
class ServedModel:
    """A served model.

    Attributes:
        classes: the species, in the order of the scores.
        sample_rate_hz: of the waveforms that it takes.
        waveform_signature, waveform_input: the function that takes waveforms, and its input.
        wav_input: name of the input of `wav`, which takes the bytes of WAV files; None where the
            model has no such signature.
        outputs: those of its outputs that are asked for.
        fingerprint: differs between models whose scores differ, as far as servers tell.
        grid: None where the model has no `about`.
    """

    classes: list[SpeciesClass]
    sample_rate_hz: int
    waveform_signature: str
    waveform_input: str
    outputs: tuple[str, ...]
    fingerprint: str
    wav_input: str | None = None
    grid: WindowGrid | None = None

    @property
    def columns(self) -> list[str]:
        """Of a table of scores: s<species_id>."""
        return self.scored_by.columns

    @property
    def scored_by(self) -> ScoredBy:
        """What tables of its scores need to know of it."""
        grid, rate_hz = self.grid, self.sample_rate_hz
        windows = grid and WindowsOfModel(
            grid.window_samples / rate_hz,
            grid.hop_samples / rate_hz,
            grid.mean_box_s,
            grid.box_hz,
            grid.calibration,
            "the model",
        )
        return ScoredBy(self.classes, rate_hz, windows)

    def encode(self, transport: Transport, waveform: np.ndarray) -> Any:
        """The request for the scores of a waveform, float32 [samples], without loss."""
        if self.wav_input is None or transport.packs_floats:
            inputs = {self.waveform_input: waveform[np.newaxis]}
            return transport.encode(self.waveform_signature, inputs, self.outputs)
        content = wav_bytes(waveform, self.sample_rate_hz)
        return transport.encode("wav", {self.wav_input: [content]}, self.outputs)

    def bytes_per_sample(self, transport: Transport) -> float:
        """The most that a sample takes in a request."""
        if transport.packs_floats:
            return 4
        # Four bytes as base64, or a decimal number with its comma.
        return 16 / 3 if self.wav_input else 25

    def read_scores(self, outputs: dict[str, np.ndarray]) -> PieceScores:
        """Scores from the reply to a request.

        Raises:
            RequestError: if the reply has other shapes, or scores that are not finite.
        """
        scores, windows = outputs[_SCORES], outputs.get(_WINDOW_SCORES)
        classes = len(self.classes)
        _check(scores, scores.shape == (1, classes), f"{_SCORES} [1, {classes}]")
        if windows is not None:
            fits = windows.ndim == 3 and windows.shape[::2] == (1, classes) and windows.shape[1] > 0
            _check(windows, fits, f"{_WINDOW_SCORES} [1, windows, {classes}]")
            windows = windows[0].astype(np.float32)
        return PieceScores(scores[0].astype(np.float32), windows)


async def ask_model(
    transport: Transport,
    rules: RetryRules,
    sample_rate_hz: int | None = None,
    classes: Sequence[SpeciesClass] | None = None,
) -> ServedModel:
    """Asks a server for what its model is.

    Args:
        transport: connection to the model.
        rules: how often to ask.
        sample_rate_hz, classes: of a model without `about`; else they must be None.

    Raises:
        UserError: if the server cannot be reached, has no such model or one of another kind,
            or if it does not say its sample rate and species and they are not given either.
    """
    try:
        described = await call_with_retries(transport.describe, rules)
        signatures = described.signatures
        scoring = _scoring(signatures)
        identity = [transport.address, described.version, sorted(signatures)]
        if "about" not in signatures:
            if sample_rate_hz is None or classes is None:
                raise UserError(
                    "The model does not say which sample rate and species it has (no signature "
                    "`about`). Name them with --sample-rate and --classes, or export it again."
                )
            identity += [sample_rate_hz, [c.species_id for c in classes]]
            return ServedModel(list(classes), sample_rate_hz, *scoring, _hash(identity))
        if sample_rate_hz is not None or classes is not None:
            raise UserError(
                "The model says which sample rate and species it has (signature `about`). Leave "
                "--sample-rate and --classes out."
            )
        if _WINDOW_SCORES not in scoring[2]:
            raise UserError(
                f"A model with a signature `about` must give `{_WINDOW_SCORES}`. It gives "
                f"{', '.join(scoring[2])}. Export it again."
            )
        about = signatures["about"]
        # It takes a number of samples to tell how many windows they give; any will do.
        inputs = {name: np.array(1, np.int32) for name in about.inputs}
        request = transport.encode("about", inputs, about.outputs)
        said = await call_with_retries(lambda: transport.predict(request), rules)
    except RequestError as error:
        raise UserError(f"The server does not say what its model is. {error}") from None
    try:
        identity += [(name, values.tolist()) for name, values in sorted(said.items())]
        return _served_model(said, signatures, scoring, _hash(identity))
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise UserError(
            "The model's signature `about` is not the one of scripts/export.py: "
            f"{type(error).__name__}: {error}. Export it again."
        ) from None


def read_classes(path: str | Path) -> list[SpeciesClass]:
    """The species of a model in the order of its scores, from a CSV with species_id and name.

    Such as assets/classes.csv of an export.

    Raises:
        UserError: if the file cannot be read, lacks a column, or an id is no number.
    """
    classes = read_species(path)
    if not classes:
        raise UserError(f"{path} must list at least one species. Found only a header.")
    return classes


def wav_bytes(waveform: np.ndarray, sample_rate_hz: int) -> bytes:
    """A WAV file of a waveform, float32 [samples], without loss.

    With 16 bits where these hold every sample, as of a 16-bit recording that was not resampled:
    half the size of the float format that is taken otherwise.
    """
    steps = waveform * _STEPS_OF_16_BITS
    whole = np.rint(steps)
    fits = np.array_equal(steps, whole) and whole.max(initial=0) < _STEPS_OF_16_BITS
    stream = io.BytesIO()
    # libsndfile would scale floats by 32767, so it is given whole numbers.
    samples, subtype = (whole.astype(np.int16), "PCM_16") if fits else (waveform, "FLOAT")
    soundfile.write(stream, samples, sample_rate_hz, subtype, format="WAV")
    return stream.getvalue()


def _scoring(signatures: dict[str, Signature]) -> tuple[str, str, tuple[str, ...]]:
    """The function that takes waveforms, its input, and those of its outputs that are used."""
    # `batch` gives nothing but [batch, ...], so it works where a server batches requests too.
    name = "batch" if "batch" in signatures else "serving_default"
    scoring = signatures.get(name)
    if scoring is None or len(scoring.inputs) != 1 or _SCORES not in scoring.outputs:
        found = f"{scoring.inputs} -> {scoring.outputs}" if scoring else ", ".join(signatures)
        raise UserError(
            f"The model must have a signature `{name}` that takes a waveform and gives "
            f"`{_SCORES}`. Found {found}. Name another --model."
        )
    outputs = tuple(key for key in (_SCORES, _WINDOW_SCORES) if key in scoring.outputs)
    return name, scoring.inputs[0], outputs


def _served_model(
    said: dict[str, np.ndarray],
    signatures: dict[str, Signature],
    scoring: tuple[str, str, tuple[str, ...]],
    fingerprint: str,
) -> ServedModel:
    # Bytes over gRPC, text over REST.
    names = [n.decode() if isinstance(n, bytes) else str(n) for n in said["class_names"]]
    ids = [int(number) for number in said["species_ids"]]
    classes = [SpeciesClass(number, name) for number, name in zip(ids, names, strict=True)]
    rate_hz = int(said["sample_rate_hz"])
    hop_samples = _whole("hop_s", float(said["hop_s"]) * rate_hz)
    boxes = zip(ids, *(said[key] for key in ("mean_box_s", "low_hz", "high_hz")), strict=True)
    mean_box_s, box_hz = {}, {}
    for number, box_s, low_hz, high_hz in boxes:
        if math.isfinite(box_s):
            mean_box_s[number] = float(box_s)
        if math.isfinite(low_hz) and math.isfinite(high_hz):
            box_hz[number] = (float(low_hz), float(high_hz))
    calibration = None
    if bool(said["calibrated"]):
        calibration = Calibration(
            columns=[f"s{number}" for number in ids],
            score_logits=np.asarray(said["calibration_score_logits"], np.float32),
            probability_logits=np.asarray(said["calibration_probability_logits"], np.float32),
            thresholds=np.asarray(said["thresholds"], np.float32),
            rows=[],
            wanted="",
        )
    grid = WindowGrid(
        # In whole hops, as the windows are, for float32 seconds are not exact.
        window_samples=round(float(said["window_s"]) * rate_hz / hop_samples) * hop_samples,
        hop_samples=hop_samples,
        mean_box_s=mean_box_s,
        box_hz=box_hz,
        calibration=calibration,
    )
    wav = signatures.get("wav")
    wav_input = wav.inputs[0] if wav and len(wav.inputs) == 1 else None
    return ServedModel(classes, rate_hz, *scoring, fingerprint, wav_input, grid)


def _hash(identity: list) -> str:
    return hashlib.sha256(repr(identity).encode()).hexdigest()[:16]


def _whole(name: str, samples: float) -> int:
    if not 0.5 < samples < 1e9 or abs(samples - round(samples)) > 0.01:
        raise ValueError(f"{name} must be a whole number of samples, not {samples:g}")
    return round(samples)


def _check(values: np.ndarray, fits: bool, wanted: str) -> None:
    if not fits or values.dtype.kind not in "fi" or not np.isfinite(values).all():
        raise RequestError(
            f"The model must reply with {wanted} of finite numbers. "
            f"Received: {values.dtype} {list(values.shape)}."
        )
