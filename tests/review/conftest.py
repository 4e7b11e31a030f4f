"""A field season in small: annotated recordings, and others in which events were found."""

import shutil
from types import SimpleNamespace

import pandas as pd
import pytest
from made_events import event


@pytest.fixture
def field(tiny_data, tmp_path):
    """Folder `data` with the first six recordings of `tiny_data` and their rows; folder `audio`
    with the other four; `events`, a CSV file with an event for every row of these; `truth`, the
    complete tables by file name.
    """
    data, audio = tmp_path / "data", tmp_path / "audio"
    (data / "train").mkdir(parents=True)
    audio.mkdir()
    for path in sorted((tiny_data / "train").iterdir()):
        known = path.stem < "tiny06"
        shutil.copy(path, data / "train" if known else audio)
    shutil.copy(tiny_data / "species.csv", data)
    truth, events = {}, []
    for name, score in (("train_tp.csv", 0.7), ("train_fp.csv", 0.4)):
        rows = truth[name] = pd.read_csv(tiny_data / name)
        rows[rows["recording_id"] < "tiny06"].to_csv(data / name, index=False)
        for row in rows[rows["recording_id"] >= "tiny06"].itertuples():
            file = audio / f"{row.recording_id}.flac"
            events.append(
                event(
                    row.recording_id,
                    row.species_id,
                    row.t_min,
                    row.t_max,
                    score,
                    file=file,
                    band=(row.f_min, row.f_max),
                )
            )
    path = tmp_path / "events.csv"
    pd.DataFrame(events).to_csv(path, index=False)
    return SimpleNamespace(data=data, audio=audio, events=path, truth=truth, folder=tmp_path)
