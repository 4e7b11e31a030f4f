"""A data folder, or annotation tables and a folder of sound -> all that is known before training.

Of recordings the headers are read, unless they are to be listened to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from rfcx_tf.audio.decode import AudioError, AudioSource, decode_blocks, open_recording
from rfcx_tf.core.errors import UserError, first_few
from rfcx_tf.labels.annotation_import import read_annotations
from rfcx_tf.labels.annotations import (
    RowProblem,
    check_rows,
    survey_kaggle_folder,
)
from rfcx_tf.labels.marks import TableColumns

# Of these every class has a line, in the order of species_id.
SPECIES_COLUMNS = (
    *("species_id", "name", "tp", "fp", "recordings"),
    *("shortest_s", "median_s", "longest_s", "mean_s", "low_hz", "high_hz"),
)


@dataclass(frozen=True)
class Facts:
    """What a data folder holds.

    Attributes:
        rows: see `rfcx_tf.labels.annotations.Annotations`; invalid ones are not among them.
        problems: what is wrong with rows, one alone or two together.
        species: a line a class: species_id, name, tp, fp (rows), recordings (with TP rows);
            shortest_s, median_s, longest_s, mean_s, low_hz, high_hz (medians) of its TP boxes,
            NaN where there are none.
        recordings: recording_id -> where the sound is, of all that were found.
        sounds: a line for every recording that can be opened: recording_id, rate_hz, channels,
            duration_s (of its header, or of what is there where it is shorter).
        damaged: a line for every recording that cannot be opened, or was cut short.
        missing: recordings that rows or complete.csv name and that are not there, sorted.
        complete: recordings in which all calls of some species are marked (complete.csv).
        left_out: what may be recordings or tables and could not be used.
        notes: what else is to be said of how they were read.
    """

    rows: pd.DataFrame
    problems: Sequence[RowProblem]
    species: pd.DataFrame
    recordings: Mapping[str, AudioSource]
    sounds: pd.DataFrame
    damaged: Sequence[str]
    missing: Sequence[str]
    complete: Collection[str]
    left_out: Sequence[str]
    notes: Sequence[str]

    @property
    def used_rows(self) -> pd.DataFrame:
        """The rows whose recording is there."""
        return self.rows[self.rows["recording_id"].isin(set(self.recordings))].reset_index(
            drop=True
        )


def read_data_folder(data_dir: Path, *, listen: bool = False, progress: bool = True) -> Facts:
    """The facts of a folder in the competition's layout.

    Args:
        data_dir: the folder.
        listen: decode every recording to its end; else only headers are read.
        progress: show a bar while recordings are read.

    Raises:
        UserError: as `survey_kaggle_folder`, or if there is not one row that can be read.
    """
    found, problems = survey_kaggle_folder(data_dir)
    if found.rows.empty:
        raise UserError(
            problems[0].text if problems else f"A data folder must have rows. {data_dir} has none."
        )
    sounds, damaged = _read_sounds(found.recordings, listen, progress)
    return Facts(
        rows=found.rows,
        problems=problems,
        species=_species_table(found.rows, [(c.species_id, c.name) for c in found.classes]),
        recordings=found.recordings,
        sounds=sounds,
        damaged=damaged,
        missing=found.missing,
        complete=found.complete,
        left_out=found.left_out,
        notes=found.notes,
    )


def read_tables(
    tables: Sequence[Path],
    audio: Path,
    columns: TableColumns,
    *,
    same_names: bool = False,
    listen: bool = False,
    progress: bool = True,
) -> Facts:
    """The facts of annotation tables and the sound that they are of, before they are imported.

    Args:
        tables: files, in one of `annotation_tables.FORMATS`.
        audio: folder of the recordings.
        columns: how the tables say what was heard.
        same_names: as of `import_annotations`.
        listen, progress: as of `read_data_folder`.

    Raises:
        UserError: as `read_annotations`, or if nobody has judged a single row.
    """
    imported = read_annotations(tables, audio, columns, "unknown", same_names=same_names)
    if not imported.rows:
        detected = len(imported.detections)
        raise UserError(
            f"Annotation tables must have rows that a person judged. Found none in "
            f"{first_few(map(str, tables))}"
            + (f", and {detected} rows of a detector." if detected else ".")
        )
    rows, problems = check_rows(imported.rows)
    recordings = {name: AudioSource(path) for name, path in imported.recordings.items()}
    sounds, damaged = _read_sounds(recordings, listen, progress)
    return Facts(
        rows=rows,
        problems=problems,
        species=_species_table(rows, [(c.species_id, c.name) for c in imported.new_classes]),
        recordings=recordings,
        sounds=sounds,
        damaged=damaged,
        missing=imported.missing,
        complete=(),
        left_out=imported.left_out,
        notes=imported.notes,
    )


def _read_sounds(
    recordings: Mapping[str, AudioSource], listen: bool, progress: bool
) -> tuple[pd.DataFrame, list[str]]:
    """A line for every recording that can be opened, and what is wrong with the others."""

    def look(item: tuple[str, AudioSource]) -> tuple[tuple | None, list[str]]:
        recording_id, source = item
        try:
            with open_recording(source) as sound:
                rate_hz, channels, samples = sound.rate_hz, sound.channels, sound.frames
                cut = []
                if sound.is_cut:
                    cut = [f"The recording {source} is cut short at {samples / rate_hz:.3f} s."]
            if listen:
                remarks = []
                blocks = decode_blocks(source, [rate_hz], remarks=remarks)
                samples = sum(len(block[rate_hz]) for block in blocks)
                cut = [remark.text for remark in remarks if remark.is_cut]
        except AudioError as error:
            return None, [str(error)]
        if not samples:
            return None, [f"The recording {source} has no samples."]
        return (recording_id, rate_hz, channels, samples / rate_hz), cut

    with ThreadPoolExecutor() as threads:
        looks = threads.map(look, recordings.items())
        bar = tqdm(
            looks,
            "listening" if listen else "headers",
            len(recordings),
            unit=" recordings",
            disable=None if progress else True,
            leave=False,
        )
        found = list(bar)
    lines = [line for line, _ in found if line is not None]
    columns = ["recording_id", "rate_hz", "channels", "duration_s"]
    return pd.DataFrame(lines, columns=columns), [text for _, texts in found for text in texts]


def _species_table(rows: pd.DataFrame, classes: Iterable[tuple[int, str]]) -> pd.DataFrame:
    """A line of `SPECIES_COLUMNS` for every class."""
    table = pd.DataFrame(classes, columns=["species_id", "name"]).set_index("species_id")
    tp = rows[rows["present"]]
    by_species = tp.groupby("species_id")
    length_s = (tp["t_max"] - tp["t_min"]).groupby(tp["species_id"])
    of_species = {
        "tp": by_species.size(),
        "fp": rows[~rows["present"]].groupby("species_id").size(),
        "recordings": by_species["recording_id"].nunique(),
        "shortest_s": length_s.min(),
        "median_s": length_s.median(),
        "longest_s": length_s.max(),
        "mean_s": length_s.mean(),
        "low_hz": by_species["f_min"].median(),
        "high_hz": by_species["f_max"].median(),
    }
    for name, values in of_species.items():
        table[name] = values
    counts = ["tp", "fp", "recordings"]
    table[counts] = table[counts].fillna(0).astype(int)
    return table.reset_index()[list(SPECIES_COLUMNS)]
