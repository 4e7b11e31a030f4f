"""Recordings, a server and the tables that are wanted -> the tables, one call."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.events.output import Tables
from rfcx_tf.scoring.journal import PartsFolder, RecordingResult, recording_key
from rfcx_tf.scoring.served.retries import RetryRules
from rfcx_tf.scoring.served.scoring import ScoringClient, plan_pieces
from rfcx_tf.scoring.served.served_model import ServedModel, ask_model
from rfcx_tf.scoring.served.transport import open_transport


@dataclass(frozen=True)
class QueryOptions:
    """Which server, and how to ask it.

    Attributes:
        server, model, timeout_s: as for `open_transport`.
        longest_s, overlap_s, request_bytes: as for `plan_pieces`.
        concurrency: most requests at once.
        retries: how often a request is sent again.
        sample_rate_hz, classes: as for `ask_model`.
    """

    server: str
    model: str
    longest_s: float = 300.0
    overlap_s: float = 10.0
    request_bytes: float = 64 * 2**20
    concurrency: int = 4
    timeout_s: float = 120.0
    retries: RetryRules = field(default_factory=RetryRules)
    sample_rate_hz: int | None = None
    classes: Sequence[SpeciesClass] | None = None


def query_server(
    options: QueryOptions,
    recordings: Mapping[str, Path],
    tables: Tables,
    parts_folder: str | Path,
    *,
    progress: bool = True,
) -> list[str]:
    """Scores recordings with a served model and writes tables of them.

    Args:
        options: which server, and how to ask it.
        recordings: audio by recording id.
        tables: what to write.
        parts_folder: results of single recordings are kept there; what is there already is not
            asked for again. It is removed when none is missing.
        progress: whether to show a progress bar.

    Returns:
        One line for every recording that failed.

    Raises:
        UserError: if the server has no such model, or the tables cannot be made of it.
    """
    keys = {name: recording_key(name, path) for name, path in recordings.items()}
    model, parts, failed = asyncio.run(
        _score(options, recordings, keys, tables, parts_folder, progress)
    )

    def results() -> Iterator[RecordingResult]:
        for name, key in keys.items():
            result = parts.read(name, key) if key else None
            if result is not None:
                yield result

    names, rows = [], []
    for result in results():
        names.append(result.recording_id)
        rows.append(result.scores)
    values = np.stack(rows) if rows else np.empty((0, len(model.classes)))
    scores = pd.DataFrame(values, columns=model.columns)
    scores.insert(0, "recording_id", pd.Series(names, dtype=str))
    tables.write(model.scored_by, scores, results, complete=not failed)
    if not failed:
        parts.remove()
    return failed


async def _score(
    options: QueryOptions,
    recordings: Mapping[str, Path],
    keys: Mapping[str, str | None],
    tables: Tables,
    parts_folder: str | Path,
    progress: bool,
) -> tuple[ServedModel, PartsFolder, list[str]]:
    """The model, the folder that now holds the results, and a line for each that failed."""
    transport = open_transport(options.server, options.model, options.timeout_s)
    try:
        model = await ask_model(transport, options.retries, options.sample_rate_hz, options.classes)
        tables.check_model(model.scored_by, recordings)
        cuts = plan_pieces(
            model,
            transport,
            longest_s=options.longest_s,
            overlap_s=options.overlap_s,
            request_bytes=options.request_bytes,
        )
        # Scores of a recording in pieces depend on the cuts.
        identity = repr([model.fingerprint, cuts, tables.keep_windows])
        parts = PartsFolder(parts_folder, hashlib.sha256(identity.encode()).hexdigest()[:16])
        if parts.started_over:
            print(f"{parts.folder} was of another model or options: all recordings are new.")
        done = {name for name, key in keys.items() if key and parts.read(name, key) is not None}
        todo = {name: path for name, path in recordings.items() if name not in done}

        def keep(result: RecordingResult) -> None:
            key = keys[result.recording_id]
            if not tables.keep_windows:
                result = dataclasses.replace(result, window_scores=None)
            if key:
                parts.write(result, key)

        client = ScoringClient(transport, model, cuts, options.retries, options.concurrency)
        failed = await client.score_all(todo, keep, done=len(done), progress=progress)
        return model, parts, failed
    finally:
        await transport.close()
