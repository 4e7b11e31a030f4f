"""A trained run as a SavedModel: for TensorFlow Serving and for anyone.

exported/NAME/1/ takes waveforms or WAV files and needs nothing but TensorFlow. What is in it says
`rfcx_tf.serving.servable`.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from rfcx_tf.core.errors import UserError, first_few
from rfcx_tf.runs.listener_run import is_listener
from rfcx_tf.runs.run import RunInfo
from rfcx_tf.scoring.calibration import Calibration
from rfcx_tf.scoring.detector import EnsembleModel, RecordingModel
from rfcx_tf.serving.servable import ServableModel
from rfcx_tf.serving.warmup import write_warmup_requests

DEFAULT_WARMUP_S = (60.0,)


def check_exportable(paths: Iterable[Path]) -> None:
    """Refuses listeners among run folders, before any model is loaded.

    Raises:
        UserError: with the first listener.
    """
    for path in paths:
        if is_listener(path):
            raise UserError(
                f"Only a run of train.py can be exported. {path} is a listener's: distil it into "
                "one with pseudo_label.py, or score with predict.py."
            )


def export_saved_model(
    model: RecordingModel | EnsembleModel,
    out_dir: str | Path,
    *,
    info: RunInfo | None = None,
    calibration: Calibration | None = None,
    warmup_s: Sequence[float] = DEFAULT_WARMUP_S,
) -> Path:
    """Writes the next version of a servable model.

    Args:
        model: the trained detectors with their front end, or several runs.
        out_dir: folder of the model; versions are the numbered folders in it.
        info: of the run, or the first: the species' usual lengths and bands.
        calibration: makes probabilities of the scores.
        warmup_s: lengths of recordings that a server tries before it takes requests.

    Returns:
        The new version's folder. It appears whole: a server never sees a part of it.

    Raises:
        UserError: if the folder cannot be written, the calibration is of other classes or a
            length is not positive.
    """
    out_dir = Path(out_dir)
    if calibration is not None:
        _check_calibration(calibration, model)
    if not all(math.isfinite(seconds) and seconds > 0 for seconds in warmup_s):
        raise UserError(
            "Recordings to warm up with must be longer than 0 s. "
            f"Received: {' '.join(f'{seconds:g}' for seconds in warmup_s)}."
        )
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        versions = [int(p.name) for p in out_dir.iterdir() if p.name.isdigit()]
        # Servers look at numbered folders only.
        workspace = Path(tempfile.mkdtemp(prefix=".writing-", dir=out_dir))
    except OSError as error:
        raise UserError(
            f"{out_dir} cannot be written: {error.strerror}. Name another --out."
        ) from None
    try:
        assets_dir = workspace / "source"
        assets_dir.mkdir()
        servable = ServableModel(model, assets_dir, info, calibration)
        servable.save(workspace / "model")
        requests = servable.warmup_requests(warmup_s)
        write_warmup_requests(workspace / "model", out_dir.resolve().name, requests)
        version_dir = out_dir / str(max(versions, default=0) + 1)
        (workspace / "model").rename(version_dir)
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
    return version_dir


def _check_calibration(calibration: Calibration, model: RecordingModel | EnsembleModel) -> None:
    columns = [f"s{c.species_id}" for c in model.classes]
    if calibration.columns != columns:
        raise UserError(
            "A calibration must be of the model's classes, in their order: "
            f"{first_few(columns)}. Found {first_few(calibration.columns)}. Make another with "
            "calibrate.py."
        )
