"""The function of a served model that scores waveforms: its requests, its replies and its card.

A model of rfcx-tf export has a signature `about` that gives its card. For a model without one, the
caller gives the sample rate and the species; recordings are then sent whole, and there are scores
but no events.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile

from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.scoring.card import ModelCard
from rfcx_tf.scoring.scorer import RecordingScores
from rfcx_tf.scoring.served.connection import Connection
from rfcx_tf.scoring.served.retries import RequestError
from rfcx_tf.scoring.served.transport import Signature, Transport

_SCORES, _WINDOW_SCORES, _WINDOW_BOXES = "scores", "window_scores", "window_boxes"
_CARD = "card"
# A 16-bit sample k is k / 32768 in float32.
_STEPS_OF_16_BITS = 32768


@dataclass(frozen=True)
class ScoringFunction:
    """The function of a served model that scores waveforms.

    Attributes:
        card: of the model. Without `about` it does not know its windows.
        version: of the model; empty where the server does not say.
        signature, waveform_input, outputs: its name, and those of what it takes and gives.
        wav_input: name of the input of the signature `wav`, which takes the bytes of WAV files;
            None where the model has no such signature.
    """

    card: ModelCard
    version: str
    signature: str
    waveform_input: str
    outputs: tuple[str, ...]
    wav_input: str | None

    def encode(self, transport: Transport, waveform: np.ndarray) -> Any:
        """The request for the scores of a waveform, float32 [samples], without loss."""
        if self.wav_input is None or transport.packs_floats:
            inputs = {self.waveform_input: waveform[np.newaxis]}
            return transport.encode(self.signature, inputs, self.outputs)
        content = wav_bytes(waveform, self.card.sample_rate_hz)
        return transport.encode("wav", {self.wav_input: [content]}, self.outputs)

    def bytes_per_sample(self, transport: Transport) -> float:
        """The most that a sample takes in a request."""
        if transport.packs_floats:
            return 4
        # Four bytes as base64, or a decimal number with its comma.
        return 16 / 3 if self.wav_input else 25

    def read_scores(self, outputs: Mapping[str, np.ndarray]) -> RecordingScores:
        """Scores from the reply to a request.

        Raises:
            RequestError: if the reply has other shapes, or scores that are not finite.
        """
        scores, windows = outputs[_SCORES], outputs.get(_WINDOW_SCORES)
        classes = len(self.card.classes)
        _check(scores, scores.shape == (1, classes), f"{_SCORES} [1, {classes}]")
        if windows is not None:
            fits = windows.ndim == 3 and windows.shape[::2] == (1, classes) and windows.shape[1] > 0
            _check(windows, fits, f"{_WINDOW_SCORES} [1, windows, {classes}]")
            windows = windows[0].astype(np.float32)
        boxes = outputs.get(_WINDOW_BOXES)
        if boxes is not None:
            shape = (1, *windows.shape, 4)
            _check(boxes, boxes.shape == shape, f"{_WINDOW_BOXES} {list(shape)}")
            boxes = boxes[0].astype(np.float32)
        return RecordingScores(scores[0].astype(np.float32), windows, boxes)


def find_function(
    connection: Connection,
    sample_rate_hz: int | None = None,
    classes: Sequence[SpeciesClass] | None = None,
) -> ScoringFunction:
    """Asks a server which function of its model scores waveforms, and for the model's card.

    Args:
        connection: to the model.
        sample_rate_hz, classes: of a model without `about`; None for other models.

    Raises:
        UserError: if the server cannot be reached, has no such model, one of another kind or one
            of an earlier version, or if it does not say its sample rate and species and they are
            not given either.
    """
    try:
        version, signatures = connection.send(connection.transport.describe).result()
        card = None
        if "about" in signatures:
            if sample_rate_hz is not None or classes is not None:
                raise UserError(
                    "The model says which sample rate and species it has (signature `about`). "
                    "Leave --sample-rate and --classes out."
                )
            card = _ask_for_card(connection, signatures["about"])
    except RequestError as error:
        raise UserError(f"The server does not say what its model is. {error}") from None
    # `batch` gives nothing but [batch, ...], so it works where a server batches requests too.
    name = "batch" if "batch" in signatures else "serving_default"
    function = signatures.get(name)
    needed = {_SCORES, _WINDOW_SCORES} if card else {_SCORES}
    if function is None or len(function.inputs) != 1 or not needed <= set(function.outputs):
        found = ", ".join(signatures)
        if function:
            found = f"{function.inputs} -> {function.outputs}"
        raise UserError(
            f"The model must have a signature `{name}` that takes a waveform and gives "
            f"{' and '.join(f'`{output}`' for output in sorted(needed))}. Found {found}. Name "
            "another --model."
        )
    wav = signatures.get("wav")
    return ScoringFunction(
        card=card or _card_without_windows(sample_rate_hz, classes, connection.transport.address),
        version=version,
        signature=name,
        waveform_input=function.inputs[0],
        outputs=tuple(
            key for key in (_SCORES, _WINDOW_SCORES, _WINDOW_BOXES) if key in function.outputs
        ),
        wav_input=wav.inputs[0] if card and wav and len(wav.inputs) == 1 else None,
    )


def wav_bytes(waveform: np.ndarray, sample_rate_hz: int) -> bytes:
    """A WAV file of a waveform, float32 [samples], without loss.

    It has 16 bits where they hold every sample, as in a 16-bit recording that was not resampled:
    half the size of the float format that it has otherwise.
    """
    steps = waveform * _STEPS_OF_16_BITS
    whole = np.rint(steps)
    fits = np.array_equal(steps, whole) and whole.max(initial=0) < _STEPS_OF_16_BITS
    stream = io.BytesIO()
    # libsndfile would scale floats by 32767, so it is given whole numbers.
    samples, subtype = (whole.astype(np.int16), "PCM_16") if fits else (waveform, "FLOAT")
    soundfile.write(stream, samples, sample_rate_hz, subtype, format="WAV")
    return stream.getvalue()


def _ask_for_card(connection: Connection, about: Signature) -> ModelCard:
    transport = connection.transport
    if _CARD not in about.outputs:
        raise UserError(
            "A model's signature `about` must give its `card`. This model's does not: it was "
            "exported by an earlier version of rfcx-tf. Export it again."
        )
    # It takes a number of samples to tell how many windows they give; any will do.
    inputs = {name: np.array(1, np.int32) for name in about.inputs}
    request = transport.encode("about", inputs, [_CARD])
    text = connection.send(lambda: transport.predict(request)).result()[_CARD].item()
    # Bytes over gRPC, text over REST.
    text = text.decode() if isinstance(text, bytes) else text
    return ModelCard.from_json(text).replace(made_by=transport.address)


def _card_without_windows(
    sample_rate_hz: int | None, classes: Sequence[SpeciesClass] | None, address: str
) -> ModelCard:
    if sample_rate_hz is None or classes is None:
        raise UserError(
            "The model does not say which sample rate and species it has (no signature `about`). "
            "Name them with --sample-rate and --classes, or export it again."
        )
    if not classes:
        raise UserError("--classes must list at least one species. Found only a header.")
    unknown = (math.nan,) * len(classes)
    return ModelCard(
        classes=tuple(classes),
        sample_rate_hz=sample_rate_hz,
        window_s=0,
        hop_s=0,
        window_centre_s=(0,) * len(classes),
        mean_box_s=unknown,
        box_hz=tuple(zip(unknown, unknown, strict=True)),
        made_by=address,
    )


def _check(values: np.ndarray, fits: bool, wanted: str) -> None:
    if not fits or values.dtype.kind not in "fi" or not np.isfinite(values).all():
        raise RequestError(
            f"The model must reply with {wanted} of finite numbers. "
            f"Received: {values.dtype} {list(values.shape)}."
        )
