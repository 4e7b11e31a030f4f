"""A trained run as a SavedModel: for TensorFlow Serving and for anyone.

exported/NAME/1/ takes waveforms or WAV files and needs nothing but TensorFlow.
`rfcx_tf.serving.servable` says what is in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import check_writable, temporary_folder
from rfcx_tf.runs.open import Run
from rfcx_tf.scoring.detector import DetectorScorer
from rfcx_tf.scoring.ensemble import EnsembleScorer
from rfcx_tf.scoring.listener import ListenerScorer
from rfcx_tf.serving.servable import ServableModel
from rfcx_tf.serving.warmup import write_warmup_requests

DEFAULT_WARMUP_S = (60.0,)


def check_exportable(runs: Iterable[Run], *, litert: bool = False) -> None:
    """Raises UserError for a run that cannot be exported, before any is loaded.

    Args:
        runs: of any kind.
        litert: whether they are to become LiteRT files.
    """
    kinds = ("detector",) if litert else ("detector", "listener")
    form = "LiteRT files" if litert else "a SavedModel"
    for run in runs:
        if run.kind not in kinds:
            raise UserError(
                f"Only a {' or a '.join(kinds)} can become {form}. {run.path} is a {run.kind}: "
                "distil it with rfcx-tf pseudo-label, or score with rfcx-tf predict."
            )


def export_saved_model(
    scorer: DetectorScorer | ListenerScorer | EnsembleScorer,
    out_dir: str | Path,
    *,
    warmup_s: Sequence[float] = DEFAULT_WARMUP_S,
) -> Path:
    """Writes the next version of a servable model.

    Args:
        scorer: the trained detectors with their front end, a listener, or an ensemble. With a
            calibration in its card, the model gives probabilities beside the scores.
        out_dir: folder of the model; versions are the numbered folders in it.
        warmup_s: lengths of recordings that a server tries before it takes requests.

    Returns:
        The new version's folder. It appears whole: a server never sees a part of it.

    Raises:
        UserError: if the folder cannot be written, a length is not positive, the members of an
            ensemble differ in sample rate or windows, or a listener's TFLite model has operators
            that cannot be translated.
    """
    out_dir = Path(out_dir)
    if isinstance(scorer, EnsembleScorer):
        _check_one_model(scorer)
    if not all(math.isfinite(seconds) and seconds > 0 for seconds in warmup_s):
        raise UserError(
            "Recordings to warm up with must be longer than 0 s. "
            f"Received: {' '.join(f'{seconds:g}' for seconds in warmup_s)}."
        )
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        versions = [int(p.name) for p in out_dir.iterdir() if p.name.isdigit()]
        check_writable(out_dir / "version")
    except OSError as error:
        raise UserError(
            f"{out_dir} cannot be written: {error.strerror}. Name another --out."
        ) from None
    # Servers look at numbered folders only.
    with temporary_folder(out_dir) as workspace:
        assets_dir = workspace / "source"
        assets_dir.mkdir()
        servable = ServableModel(scorer, assets_dir)
        servable.save(workspace / "model")
        calls = servable.warmup_calls(warmup_s)
        write_warmup_requests(workspace / "model", out_dir.resolve().name, calls)
        version_dir = out_dir / str(max(versions, default=0) + 1)
        (workspace / "model").rename(version_dir)
    return version_dir


def _check_one_model(ensemble: EnsembleScorer) -> None:
    """All members take one waveform, and their scores are averaged window by window."""
    first, *others = (member.card for member in ensemble.members)
    for card in others:
        if card.sample_rate_hz == first.sample_rate_hz and card.same_windows(first):
            continue
        found = [
            f"{c.made_by}: {c.sample_rate_hz} Hz, {c.window_s:.6g} s, one every {c.hop_s:.6g} s"
            for c in (first, card)
        ]
        raise UserError(
            "Runs in one model must have one sample rate and the same windows. Found "
            f"{'; '.join(found)}. Export each by itself, or combine them with rfcx-tf predict."
        )
