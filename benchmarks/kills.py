"""Kills verbs at random moments, runs them again and compares what is there in the end.

    nice -n 19 python benchmarks/kills.py --kills 500 --out kills.json

Every verb that writes works on a small synthetic rainforest, in a process that is forked from one
that has imported everything. Before a seeded random file operation the process is killed: at once,
or up to a tenth of a second later, which may be amid a write. The same command follows, which may
be killed too. What the last one leaves is compared with what it leaves without kills: all files by
their names and contents (but TensorBoard's logs and graphs of exports, which are no two times the
same), the rows of tables, and exit statuses. It prints a table in Markdown.
"""

import argparse
import collections
import hashlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.kill_cases import CASES, PREPARATIONS, Case, judge, write_files
from benchmarks.report import markdown_table
from rfcx_tf.cli.main import Parser, exit_status
from rfcx_tf.cli.main import main as run_verb
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_write_text, check_writable

_CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir")
_LONGEST_DELAY_S = 0.1
# A verb that takes longer than any does here is stuck.
_TIMEOUT_S = 3600
_COLUMNS = {
    "verb": ("verb", "s"),
    "operations": ("file operations", "d"),
    "kills": ("kills", "d"),
    "whole": ("whole already", "d"),
    "resumed": ("resumed", "d"),
    "lost": ("lost", "d"),
    "doubled": ("doubled", "d"),
    "stuck": ("stuck", "d"),
}
VERDICTS = ("whole", "resumed", "lost", "doubled", "stuck")


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500, help="in all (default 500)")
    parser.add_argument("--verbs", nargs="+", help="some of them; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="the same as JSON")
    parser.add_argument(
        "--folder",
        type=Path,
        help="to work in, a new one or one of an earlier call, which has made what verbs begin "
        "with; default: a temporary one",
    )
    arguments = parser.parse_args()
    cases = [case for case in CASES if not arguments.verbs or case.name in arguments.verbs]
    if not cases or arguments.kills < 1:
        names = ", ".join(case.name for case in CASES)
        raise UserError(f"--kills must be above 0, and --verbs some of: {names}.")
    if arguments.out:
        check_writable(arguments.out)
    import_everything()
    with tempfile.TemporaryDirectory(prefix="rfcx-kills-") as temporary:
        place = Place((arguments.folder or Path(temporary)).resolve())
        place.prepare()
        rows = kill_all(cases, place, arguments.kills, arguments.seed)
    print(markdown_table(rows, _COLUMNS))
    if arguments.out:
        atomic_write_text(arguments.out, json.dumps(rows, indent=1) + "\n")


def import_everything() -> None:
    """Imports what verbs import. TensorFlow does nothing yet, since that does not survive forks."""
    import importlib
    import pkgutil

    import rfcx_tf

    for module in pkgutil.walk_packages(rfcx_tf.__path__, "rfcx_tf."):
        # A server and workers are no verbs that write.
        if not module.name.startswith(("rfcx_tf.scoring.beam", "rfcx_tf.serving.server")):
            importlib.import_module(module.name)
    for name in ("h5py", "matplotlib.pyplot", "pyarrow.parquet", "sklearn.linear_model"):
        importlib.import_module(name)


def kill_all(cases: list[Case], place: "Place", kills: int, seed: int) -> list[dict]:
    """Kills the cases so often in all, each by its share; a row of `_COLUMNS` for each."""
    rows, left, left_share = [], kills, sum(case.share for case in cases)
    for case in cases:
        own = round(left * case.share / left_share)
        left, left_share = left - own, left_share - case.share
        began_s = time.perf_counter()
        # Of each verb its own numbers, so that --verbs kills it at the same places.
        rows.append(kill_case(case, place, own, random.Random(f"{seed} {case.name}")))
        print(f"{rows[-1]} {time.perf_counter() - began_s:.0f} s", file=sys.stderr, flush=True)
    sums = {name: sum(row[name] for row in rows) for name in ("kills", *VERDICTS)}
    operations = sum(row["operations"] for row in rows)
    return [*rows, {"verb": "all", "operations": operations} | sums]


def kill_case(case: Case, place: "Place", kills: int, numbers: random.Random) -> dict:
    """Kills one verb so often."""
    place.begin(case)
    status, operations = place.run(case)
    if status not in case.statuses:
        raise RuntimeError(f"{case.name} ends with {status} without a kill:\n{place.log()}")
    whole = Whole(status, operations, contents(place.work))
    counts = collections.Counter()
    while (left := kills - counts.total()) > 0:
        counts += kill_and_run_again(case, place, whole, left, numbers)
    row = {"verb": case.name, "operations": operations, "kills": kills}
    return row | {verdict: counts[verdict] for verdict in VERDICTS}


@dataclass(frozen=True)
class Whole:
    """What a command does that is not killed: exit status, file operations, `contents`."""

    status: int
    operations: int
    contents: dict[str, tuple[str, int]]


def kill_and_run_again(
    case: Case, place: "Place", whole: Whole, most_kills: int, numbers: random.Random
) -> collections.Counter:
    """Kills a command once or several times in one folder; how many kills have which verdict."""
    place.begin(case)
    counts, done = collections.Counter(), []
    while True:
        is_killed = counts.total() < most_kills and (not done or numbers.random() < 0.4)
        kill = (numbers.randrange(whole.operations), _delay(numbers)) if is_killed else None
        status, _ = place.run(case, kill)
        done.append((kill, status))
        if status in (-signal.SIGKILL, -signal.SIGALRM):
            wrong = compare(case, contents(place.work), whole.contents)
            counts["resumed" if wrong else "whole"] += 1
            verdict = "lost" if torn_files(place.work) else None
        elif status != whole.status:
            verdict = "stuck"
        else:
            verdict = compare(case, contents(place.work), whole.contents)
            if verdict is None:
                return counts
        if verdict is not None:
            kept = place.keep(case)
            print(f"{case.name}: {verdict} after {done}, see {kept}", file=sys.stderr)
            return collections.Counter({verdict: counts.total()})


def _delay(numbers: random.Random) -> float:
    """Seconds from the file operation to the kill: half of them 0, others from 0.1 ms on."""
    return 0.0 if numbers.random() < 0.5 else _LONGEST_DELAY_S * 10 ** -numbers.uniform(0, 3)


def compare(case: Case, found: dict, wanted: dict) -> str | None:
    """What is wrong with a folder, `lost` or `doubled`; None if nothing is.

    Args:
        case: that ran in it.
        found, wanted: `contents` of the folder, and of one without kills.
    """
    extra = {n for n in found.keys() - wanted.keys() if not n.startswith(case.may_repeat)}
    for name, (content, lines) in wanted.items():
        if name not in found:
            return "lost"
        if Path(name).name not in case.fickle and found[name][0] != content:
            return "doubled" if found[name][1] > lines else "lost"
    return "doubled" if extra else None


def contents(folder: Path) -> dict[str, tuple[str, int]]:
    """A digest and the number of lines of every file, 0 for a folder, by path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if "logs" in path.parts or path.name.endswith(".rfcx-tf-lock"):
            continue
        if path.is_dir():
            found[name] = ("folder", 0)
            continue
        content = path.read_bytes()
        if path.suffix == ".h5":
            with suppress(OSError):  # Half of one, under a temporary name.
                content = _arrays(content)
        found[name] = (hashlib.sha256(content).hexdigest(), content.count(b"\n"))
    return found


def _arrays(content: bytes) -> bytes:
    import h5py

    arrays = []
    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(
            lambda name, item: (
                arrays.append((name, item[()].tobytes()))
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return repr(sorted(arrays)).encode()


def torn_files(folder: Path) -> list[str]:
    """Files under their own names that cannot be read to their ends."""
    import numpy as np
    import pyarrow.parquet
    import soundfile
    import yaml

    def check_csv(path: Path):
        if not path.read_bytes().endswith(b"\n"):
            raise ValueError("a line without an end")

    checks: dict[str, Callable[[Path], object]] = {
        ".json": lambda path: json.loads(path.read_text()),
        ".yaml": lambda path: yaml.safe_load(path.read_text()),
        ".csv": check_csv,
        ".h5": lambda path: _arrays(path.read_bytes()),
        ".npz": lambda path: [np.load(path)[name] for name in np.load(path).files],
        ".parquet": pyarrow.parquet.read_table,
        ".flac": soundfile.read,
        ".wav": soundfile.read,
        ".png": lambda path: b"IEND" in path.read_bytes()[-12:] or 1 / 0,
        ".html": lambda path: path.read_text().rstrip().endswith("</html>") or 1 / 0,
    }
    torn = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".rfcx-tf-") for part in parts):
            try:
                checks.get(path.suffix, lambda path: None)(path)
            except Exception as error:
                torn.append(f"{path.relative_to(folder)}: {error!r}")
    return torn


@dataclass
class Place:
    """Where verbs work: always in one folder, since runs and shards keep absolute paths.

    Attributes:
        folder: for all of it.
    """

    folder: Path

    @property
    def work(self) -> Path:
        """The folder that verbs begin in."""
        return self.folder / "work"

    @property
    def base(self) -> Path:
        """What cases begin with."""
        return self.folder / "base"

    def prepare(self) -> None:
        """Makes the base: data, recipe, shards, runs, events."""
        if self.base.exists():
            return
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        write_files(self.work)
        for words in PREPARATIONS:
            case = Case(words, (), words)
            status, _ = self.run(case)
            if status not in (0, 1):
                raise RuntimeError(f"{words} ends with {status}:\n{self.log()}")
        judge(self.work / "judged" / "review.csv", self.work / "review.csv")
        self.work.rename(self.base)

    def begin(self, case: Case) -> None:
        """Empties the folder and copies into it what a case begins with."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        for name in case.inputs:
            source, copy = self.base / name, self.work / name
            shutil.copytree(source, copy) if source.is_dir() else shutil.copy2(source, copy)

    def keep(self, case: Case) -> Path:
        """Copies the folder and what was printed to where they can be looked at."""
        kept = Path(tempfile.mkdtemp(prefix=f"{case.name} ".replace(" ", "-"), dir=self.folder))
        shutil.copytree(self.work, kept / "work")
        shutil.copy(self.folder / "log", kept)
        return kept

    def log(self) -> str:
        """The end of what the last process printed."""
        return (self.folder / "log").read_text(errors="replace")[-3000:]

    def run(self, case: Case, kill: tuple[int, float] | None = None) -> tuple[int, int]:
        """Runs a case in a process of its own.

        Args:
            case: to run.
            kill: before which file operation below the folder, and so many s later; None: none.

        Returns:
            The exit status (of a killed one the signal, negative), and how many file operations
            there were.
        """
        counter = self.folder / "operations"
        sys.stdout.flush()
        process_id = os.fork()
        if process_id == 0:
            self._work(case, kill, counter)
        deadline_s = time.monotonic() + _TIMEOUT_S
        while True:
            ended, status = os.waitpid(process_id, os.WNOHANG)
            if ended:
                status = os.waitstatus_to_exitcode(status)
                return status, int(counter.read_text()) if status >= 0 else 0
            if time.monotonic() > deadline_s:
                os.kill(process_id, signal.SIGINT)
                os.waitpid(process_id, 0)
                return 1000, 0
            time.sleep(0.01)

    def _work(self, case: Case, kill: tuple[int, float] | None, counter: Path) -> None:
        """The child: never returns."""
        status = 99
        try:
            os.chdir(self.work)
            log = os.open(self.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            _be_quick_and_repeatable()
            with _operations(self.work, kill) as count:
                sys.argv = ["rfcx-tf", *case.words.split()]
                status = run_verb(sys.argv[1:])
            counter.write_text(str(count()))
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(Exception):
                sys.stdout.flush()
            os._exit(status)


def _be_quick_and_repeatable() -> None:
    """The same arithmetic each time, no seconds in tables, and nothing drawn in pictures."""
    import matplotlib.figure
    import tensorflow as tf

    from rfcx_tf.training import baseline, callbacks

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    # Graphs run a few times here: to improve them takes longer.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    callbacks.time = baseline.time = SimpleNamespace(perf_counter=lambda: 0.0)

    def savefig(figure, file, **options):
        if options.get("format") == "png":
            figure.clear()
        drawn(figure, file, **options)

    drawn, matplotlib.figure.Figure.savefig = matplotlib.figure.Figure.savefig, savefig


@contextmanager
def _operations(folder: Path, kill: tuple[int, float] | None):
    """Counts file operations below a folder, which Python tells its audit hooks before each."""
    done = 0

    def hook(event: str, arguments: tuple):
        nonlocal done
        if event == "open":
            path, _, flags = arguments
            counts = isinstance(path, str | bytes) and flags & (
                os.O_WRONLY | os.O_RDWR | os.O_CREAT
            )
        else:
            counts, path = event in _CHANGES, arguments[0] if arguments else ""
        # `shutil.rmtree` goes by open folders.
        is_below = event in ("os.remove", "os.rmdir") and arguments[-1] != -1
        if not counts or not (is_below or os.path.abspath(os.fsdecode(path)).startswith(prefix)):
            return
        if kill is not None and done == kill[0]:
            if not kill[1]:
                os.kill(os.getpid(), signal.SIGKILL)
            # As sudden: nobody handles it.
            signal.setitimer(signal.ITIMER_REAL, kill[1])
        done += 1

    prefix = f"{folder}{os.sep}"
    sys.addaudithook(hook)
    yield lambda: done
    signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    sys.exit(exit_status(main))
