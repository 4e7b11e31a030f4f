"""What people do without this project: soundfile, librosa and a NumPy file for each crop."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import soundfile

from rfcx_tf.core.config import Config, FrontEndConfig
from rfcx_tf.core.errors import UserError
from rfcx_tf.labels.annotations import Annotations


def librosa_spectrogram(waveform: np.ndarray, config: FrontEndConfig) -> np.ndarray:
    """Waveform [samples] -> float32 [frames, mels], as `FrontEnd` defines it, in float32.

    Raises:
        UserError: for `pcen_log`, and for PCEN that begins with the first frame: no single call
            of librosa gives them.
    """
    if config.compression == "pcen_log" or config.pcen.initial != "one":
        raise UserError(
            "The comparison with librosa needs frontend.compression pcen or log, and "
            "frontend.pcen.initial one. Choose these with --set."
        )
    mel = librosa.feature.melspectrogram(
        y=waveform * np.float32(config.input_scale),
        sr=config.sample_rate_hz,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        win_length=config.win_length,
        power=config.magnitude_power,
        n_mels=config.n_mels,
        fmin=config.f_min_hz,
        fmax=config.f_max_hz,
    )
    if config.compression == "log":
        return np.log(1e-6 + mel).T
    pcen = config.pcen
    return librosa.pcen(
        mel,
        sr=config.sample_rate_hz,
        hop_length=config.hop_length,
        gain=pcen.gain,
        bias=pcen.bias,
        power=pcen.power,
        time_constant=pcen.time_constant_s,
        eps=pcen.eps,
    ).T


def write_numpy_crops(annotations: Annotations, config: Config, out_dir: Path) -> None:
    """Cuts the crop of every row, with margins, into a float32 NumPy file in `out_dir`."""
    frontend = config.frontend
    frames = config.crop_frames + 2 * config.margin_frames
    number = 0
    for name, rows in annotations.used_rows.groupby("recording_id"):
        path = annotations.recordings[name].path
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        waveform = samples.mean(axis=1)
        if rate_hz != frontend.sample_rate_hz:
            waveform = librosa.resample(
                waveform, orig_sr=rate_hz, target_sr=frontend.sample_rate_hz
            )
        spectrogram = librosa_spectrogram(waveform, frontend)
        for row in rows.itertuples():
            centre = (row.t_min + row.t_max) / 2 / frontend.frame_s
            begin = min(max(round(centre - frames / 2), 0), max(0, len(spectrogram) - frames))
            np.save(out_dir / f"{number:06d}.npy", spectrogram[begin : begin + frames])
            number += 1
