"""Arguments of `predict` -> results of recordings, in a journal."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def is_bulk(arguments: argparse.Namespace) -> bool:
    return bool(arguments.workers or arguments.runner or arguments.beam)


def score(arguments: argparse.Namespace, recordings, tables, folder: Path):
    """Scores recordings, or a part's share of them; the card, the journal and the predictions.

    Args:
        arguments: of the verb.
        recordings: all `Recordings` that were found.
        tables: the `OutputTables` that are asked for.
        folder: of the journal.
    """
    by = _score_served if arguments.server else _score_with_runs
    return by(arguments, recordings, tables, folder)


def _score_with_runs(arguments, recordings, tables, folder):
    """`score`, here or in bulk."""
    from rfcx_tf.runs.open import channel_of, open_runs
    from rfcx_tf.scoring.ensemble_weights import choose_weights
    from rfcx_tf.scoring.journal import fingerprint_runs
    from rfcx_tf.scoring.load import load_together
    from rfcx_tf.scoring.predict import predict_recordings

    weights = choose_weights(arguments.weights, arguments.run)
    runs = open_runs(arguments.run, arguments.overrides)
    scorer = load_together(runs, weights, arguments.combine)
    tables.check_model(scorer.card, recordings)
    sources = _sources(recordings, arguments.channel or channel_of(runs), arguments.part)
    fingerprint = fingerprint_runs(runs, weights, arguments.combine, tables.keep_windows)
    journal = _open_journal(folder, fingerprint)
    if is_bulk(arguments):
        from rfcx_tf.scoring.beam import LOCAL_RUNNER, BulkJob, predict_in_bulk

        job = BulkJob(
            runs=[path.resolve() for path in arguments.run],
            overrides=arguments.overrides,
            weights=weights,
            rule=arguments.combine,
            journal=journal,
            keep_windows=tables.keep_windows,
        )
        options = list(arguments.beam)
        if arguments.workers:
            options.append(f"--direct_num_workers={arguments.workers}")
            options.append("--direct_running_mode=multi_processing")
        # The local runner's processes must find the package, wherever the command was started.
        root = str(Path(__file__).resolve().parents[2])
        os.environ["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
        runner = arguments.runner or LOCAL_RUNNER
        predictions = predict_in_bulk(job, sources, scorer.card, runner=runner, options=options)
    else:
        predictions = predict_recordings(
            scorer, sources, journal=journal, keep_windows=tables.keep_windows
        )
    return scorer.card, journal, predictions


def _sources(recordings, channel: str, part):
    from rfcx_tf.audio.decode import AudioSource

    return {
        name: AudioSource(path, channel=channel)
        for name, path in recordings.items()
        if part is None or part.has(name)
    }


def _score_served(arguments, recordings, tables, folder):
    """`score` by a server."""
    from rfcx_tf.core.species import read_species
    from rfcx_tf.scoring.predict import predict_recordings
    from rfcx_tf.scoring.served.retries import RetryRules
    from rfcx_tf.scoring.served.scorer import open_served

    with open_served(
        arguments.server,
        arguments.model,
        longest_s=arguments.chunk_s,
        overlap_s=arguments.overlap_s,
        request_bytes=arguments.max_request_mib * 2**20,
        concurrency=arguments.concurrency,
        timeout_s=arguments.timeout_s,
        rules=RetryRules(arguments.retries),
        sample_rate_hz=arguments.sample_rate,
        classes=read_species(arguments.classes) if arguments.classes else None,
    ) as scorer:
        tables.check_model(scorer.card, recordings)
        journal = _open_journal(folder, scorer.fingerprint(tables.keep_windows))
        predictions = predict_recordings(
            scorer,
            _sources(recordings, arguments.channel or "mean", arguments.part),
            journal=journal,
            keep_windows=tables.keep_windows,
        )
    return scorer.card, journal, predictions


def _open_journal(folder: Path, fingerprint: str):
    from rfcx_tf.scoring.journal import Journal

    journal = Journal(folder, fingerprint)
    if journal.started_over:
        print(
            f"{journal.folder} was of another model or options, or is damaged: all recordings are "
            "new."
        )
    return journal
