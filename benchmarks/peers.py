"""What people do without this project: soundfile, librosa and NumPy files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from rfcx_tf.core.config import Config, FrontEndConfig
from rfcx_tf.core.errors import UserError


def librosa_waveform(path: Path, sample_rate_hz: int) -> np.ndarray:
    """float32 [samples], by soundfile, and librosa's resampler where the rates differ."""
    import librosa

    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    samples = samples.mean(axis=1)
    if rate_hz != sample_rate_hz:
        samples = librosa.resample(samples, orig_sr=rate_hz, target_sr=sample_rate_hz)
    return samples


def librosa_spectrogram(waveform: np.ndarray, config: FrontEndConfig) -> np.ndarray:
    """Waveform [samples] -> float32 [frames, mels], as `FrontEnd` defines it, in float32.

    Raises:
        UserError: for `pcen_log` and for PCEN that begins with the first frame, which
            librosa's functions do not give in one call.
    """
    import librosa

    if config.compression == "pcen_log" or config.pcen.initial != "one":
        raise UserError(
            "The benchmark's alternative, librosa, is set up for frontend.compression pcen or "
            "log and frontend.pcen.initial one. Choose these with --set."
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


def write_numpy_crops(
    recordings: dict[str, Path], rows: pd.DataFrame, config: Config, out_dir: Path
) -> int:
    """Cuts the crop of every row, with margins, into a float32 NumPy file of its own.

    Args:
        recordings: paths by recording id.
        rows: recording_id, t_min and t_max in seconds.
        config: front end and crops.
        out_dir: an existing folder.

    Returns:
        The number of files.
    """
    frames = config.crop_frames + 2 * config.margin_frames
    written = 0
    for name, own in rows.groupby("recording_id"):
        waveform = librosa_waveform(recordings[name], config.frontend.sample_rate_hz)
        spectrogram = librosa_spectrogram(waveform, config.frontend)
        for row in own.itertuples():
            centre = (row.t_min + row.t_max) / 2 / config.frontend.frame_s
            begin = min(max(round(centre - frames / 2), 0), max(0, len(spectrogram) - frames))
            np.save(out_dir / f"{written:06d}.npy", spectrogram[begin : begin + frames])
            written += 1
    return written
