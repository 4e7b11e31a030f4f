"""Recordings and runs in, results of single recordings out, as an Apache Beam pipeline.

An element is a recording. Every worker process loads the models once and writes the result of each
recording into the journal at once. So a pipeline that failed loses nothing, and a bundle that is
done twice repeats nothing. Flink, Spark and Dataflow give the work of a lost worker to another one.
The local runner fails instead, or waits forever, so this module ends it and runs it again for what
is left.

It needs requirements-bulk.txt. Every worker must find runs, recordings and journal by the same
paths, as on a network file system.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from rfcx_tf.audio.decode import AudioSource
from rfcx_tf.core.files import atomic_write_text
from rfcx_tf.core.names import readable
from rfcx_tf.core.progress import progress_bar
from rfcx_tf.runs.open import open_runs
from rfcx_tf.scoring.card import ModelCard
from rfcx_tf.scoring.journal import Journal, recording_key
from rfcx_tf.scoring.load import load_together
from rfcx_tf.scoring.predict import Predictions, predict_recordings, scores_table
from rfcx_tf.scoring.scorer import Scorer

LOCAL_RUNNER = "DirectRunner"
_LOOK_EVERY_S = 2.0
_FAILED = "failed"
_LIST_OF_FAILED = ".failed.json"


@dataclass(frozen=True)
class BulkJob:
    """What every worker needs to know.

    Attributes:
        runs: run folders.
        overrides, weights, rule: as for `open_runs` and `load_together`.
        journal: where results are kept.
        keep_windows: whether window scores are kept there too.
    """

    runs: Sequence[Path]
    overrides: Sequence[str]
    weights: Sequence[float]
    rule: str
    journal: Journal
    keep_windows: bool


class ScoreRecording(beam.DoFn):
    """(recording id, path in bytes, channel) -> the recording id, with its result in the journal.

    The output `failed` has (recording id, why it could not be scored).
    """

    def __init__(self, job: BulkJob):
        self._job = job
        # One scorer for all threads of a process.
        self._shared = Shared()

    def setup(self):
        self._scorer = self._shared.acquire(self._load)

    def process(self, element):
        name, path, channel = element
        predictions = predict_recordings(
            self._scorer,
            {name: AudioSource(Path(os.fsdecode(path)), channel=channel)},
            journal=self._job.journal,
            keep_windows=self._job.keep_windows,
            progress=False,
        )
        if predictions.failed:
            yield beam.pvalue.TaggedOutput(_FAILED, (name, readable(predictions.failed[name])))
        else:
            yield name

    def _load(self) -> Scorer:
        job = self._job
        runs = open_runs([Path(path) for path in job.runs], job.overrides)
        return load_together(runs, job.weights, job.rule)


def predict_in_bulk(
    job: BulkJob,
    recordings: Mapping[str, AudioSource],
    card: ModelCard,
    *,
    runner: str = LOCAL_RUNNER,
    options: Sequence[str] = (),
    progress: bool = True,
) -> Predictions:
    """Scores recordings with a Beam pipeline; what is in the journal is not done again.

    Args:
        job: what workers need to know.
        recordings: audio by recording id, each a file of its own.
        card: of the runs together.
        runner: DirectRunner, FlinkRunner, SparkRunner, DataflowRunner or another of Beam's.
        options: for Beam, as in `--direct_num_workers=2`.
        progress: whether to show a progress bar.

    Returns:
        As `predict_recordings`, with recordings in the order given.

    Raises:
        RuntimeError: if the pipeline failed without scoring a recording. Earlier results stay.
    """

    def is_done(name: str) -> bool:
        key = recording_key(name, recordings[name])
        return key is not None and job.journal.read(name, key) is not None

    def not_done() -> dict[str, AudioSource]:
        return {name: path for name, path in recordings.items() if not is_done(name)}

    failed: dict[str, str] = {}
    todo = not_done()
    while todo:
        try:
            with _progress(job.journal.folder, len(recordings), progress):
                if runner == LOCAL_RUNNER:
                    _run_apart(job, todo, options)
                else:
                    _run_pipeline(job, todo, runner, options)
            failed = json.loads((job.journal.folder / _LIST_OF_FAILED).read_text(encoding="utf-8"))
            break
        except RuntimeError as error:
            left = not_done()
            if runner != LOCAL_RUNNER or len(left) == len(todo):
                raise
            print(f"{error} It goes on with the {len(left)} recordings that are left.")
            todo = left
    results = {name: job.journal.read(name) for name in recordings if name not in failed}
    return Predictions(
        scores_table(card, {name: result.scores for name, result in results.items()}),
        {name: failed[name] for name in recordings if name in failed},
        {name: result.remarks for name, result in results.items() if result.remarks},
    )


def _run_pipeline(
    job: BulkJob, recordings: Mapping[str, AudioSource], runner: str, options: Sequence[str]
) -> None:
    """Scores recordings, and lists in a file why some could not be scored."""
    # Beam's text is UTF-8, which names of files may not be.
    elements = [(name, os.fsencode(s.path), s.channel) for name, s in recordings.items()]
    with beam.Pipeline(runner=runner, options=PipelineOptions(list(options))) as pipeline:
        outputs = (
            pipeline
            | "Recordings" >> beam.Create(elements)
            | "Spread" >> beam.Reshuffle()
            | "Score" >> beam.ParDo(ScoreRecording(job)).with_outputs(_FAILED, main="done")
        )
        _ = (
            outputs[_FAILED]
            | "Gather failed" >> beam.combiners.ToList()
            | "List failed" >> beam.Map(_write_failed, job.journal.folder / _LIST_OF_FAILED)
        )


def _run_apart(job: BulkJob, recordings: Mapping[str, AudioSource], options: Sequence[str]) -> None:
    """The same with the local runner, in a process group that ends with any of its workers."""
    process = multiprocessing.get_context("spawn").Process(
        target=_run_and_watch, args=(job, dict(recordings), list(options))
    )
    process.start()
    try:
        process.join()
    finally:
        if process.is_alive():
            os.killpg(process.pid, signal.SIGKILL)
    if process.exitcode:
        raise RuntimeError("The pipeline failed; what it said is above.")


def _run_and_watch(job: BulkJob, recordings: dict[str, AudioSource], options: list[str]) -> None:
    os.setsid()
    show = threading.excepthook

    def end_all():
        os.killpg(os.getpid(), signal.SIGKILL)

    def end_with_a_worker(arguments):
        show(arguments)
        # Beam's thread that started a worker process and waits for its end.
        if arguments.thread is not None and arguments.thread.name == "run_worker":
            end_all()

    def end_with_parent():
        multiprocessing.parent_process().join()
        end_all()

    threading.excepthook = end_with_a_worker
    threading.Thread(target=end_with_parent, daemon=True).start()
    # What the DirectRunner falls back on; it would try Prism first, fetched from the network.
    _run_pipeline(job, recordings, "FnApiRunner", options)


@contextmanager
def _progress(folder: Path, recordings: int, shown: bool) -> Iterator[None]:
    """Shows a bar that counts the results in the journal."""
    ended = threading.Event()
    bar = progress_bar(total=recordings, desc="predict", unit="recording", shown=shown)

    def look():
        while not ended.wait(_LOOK_EVERY_S):
            bar.update(sum(1 for _ in folder.glob("*.npz")) - bar.n)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        bar.close()


def _write_failed(failed: list[tuple[str, str]], path: Path) -> None:
    atomic_write_text(path, json.dumps(dict(failed)))
