"""A run on disk: everything needed to understand it, repeat it and use it.

runs/NAME/
  config.yaml           the recipe, every value
  run.json              classes, mean box lengths, front end, shards, versions, command
  oof_scores.csv        out-of-fold scores of whole recordings, all finished folds
  oof_crops.csv         out-of-fold probabilities of the annotated crops
  summary.md            figures of all finished folds, and which are missing
  fold0/ ...
    detector.weights.h5   weights of the chosen epoch
    history.csv           a row for every epoch
    validation.png        crops, boxes and window scores
    logs/                 for TensorBoard
    oof_scores.csv, oof_crops.csv
    done.json             figures of the finished fold
    run.json              of a fold that --join brought here: of the run that it was in
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import rfcx_tf
from rfcx_tf.core.config import Config, differences, load_config, save_config
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file, atomic_write_text
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.shards.pseudo_folder import PseudoLabels
from rfcx_tf.shards.records import Manifest


@dataclass(frozen=True)
class RunInfo:
    """What a run needs to know of its shards, so that it can be used without them.

    Attributes:
        classes: the species, in the order of the outputs.
        mean_box_s: mean TP box length by species id.
        frontend_fingerprint: of the front end that made the shards.
        tfrecords: folder of the shards; `shards_id` identifies what is in it.
        recordings: number of recordings in them.
        counts: crops by kind.
        command: that started the run.
        versions: of Python and the packages that decide results.
        pseudo: folder of the pseudo-labels, identified by `pseudo_id`; empty if none.
        start: run whose weights the folds began with; empty if none.
        box_hz: median f_min and f_max of the TP boxes by species id; empty in older runs.
    """

    classes: list[SpeciesClass]
    mean_box_s: dict[int, float]
    frontend_fingerprint: str
    tfrecords: str
    shards_id: str
    recordings: int
    counts: dict[str, int]
    command: str
    versions: dict[str, str]
    pseudo: str = ""
    pseudo_id: str = ""
    start: str = ""
    box_hz: dict[int, tuple[float, float]] = field(default_factory=dict)


class RunFolder:
    """Paths and small files of a run of detectors.

    Attributes:
        path: the folder.
        config: the recipe.
        info: what is known of its data.
        kind: tells it from the runs of other kinds, see `rfcx_tf.runs.open`.
        model_hash: of the model below what was trained; here there is none.
    """

    kind = "detector"
    model_hash = ""

    def __init__(self, path: Path, config: Config, info: RunInfo):
        self.path = path
        self.config = config
        self.info = info

    @classmethod
    def create(
        cls,
        path: str | Path,
        config: Config,
        manifest: Manifest,
        shards: Path,
        *,
        pseudo: PseudoLabels | None = None,
        start: RunFolder | None = None,
    ):
        """Makes a run folder, or opens the one that is there to go on with it.

        Args:
            path: the folder.
            config: the recipe.
            manifest: of the shards.
            shards: their folder.
            pseudo: pseudo-labels that are trained on as well.
            start: run whose weights the folds begin with.

        Raises:
            UserError: if a run of another recipe, on other shards or pseudo-labels, or with
                another start is in it.
        """
        path = Path(path)
        pseudo_path = str(pseudo.folder.resolve()) if pseudo else ""
        pseudo_id = pseudo.id if pseudo else ""
        start_path = str(start.path.resolve()) if start else ""
        if (path / "run.json").exists():
            run = cls.open(path)
            changed = differences(run.config.model_dump(), config.model_dump())
            if changed:
                key, old, new = changed[0]
                raise UserError(
                    f"A run goes on with the recipe that it began with. {path}: {key} was {old}, "
                    f"is {new}"
                    f"{f' (and {len(changed) - 1} more)' if len(changed) > 1 else ''}. "
                    "Name another --run."
                )
            if run.info.shards_id != manifest.shards_id:
                raise UserError(
                    f"A run goes on with the shards that it began with. {path} began with "
                    f"{run.info.tfrecords} ({run.info.shards_id}), {shards} holds others "
                    f"({manifest.shards_id}). Name another --run."
                )
            if run.info.pseudo_id != pseudo_id:
                raise UserError(
                    f"A run goes on with the pseudo-labels that it began with. {path} began with "
                    f"{_shards_in_words(run.info.pseudo, run.info.pseudo_id)}, --pseudo names "
                    f"{_shards_in_words(pseudo_path, pseudo_id)}. Name the first or another --run."
                )
            if run.info.start != start_path:
                raise UserError(
                    f"A run goes on with the start that it began with. {path} began with the "
                    f"weights of {run.info.start or 'no run'}, --start names "
                    f"{start_path or 'no run'}. Name the first or another --run."
                )
            return run
        if path.exists() and (not path.is_dir() or holds_something_else(path)):
            raise UserError(
                f"A run needs a new or empty folder. {path} holds something else. "
                "Name another --run."
            )
        info = RunInfo(
            classes=manifest.classes,
            mean_box_s=manifest.mean_box_s,
            frontend_fingerprint=manifest.frontend_fingerprint,
            tfrecords=str(Path(shards).resolve()),
            shards_id=manifest.shards_id,
            recordings=len(manifest.recordings),
            counts=manifest.counts,
            command=" ".join(sys.argv),
            versions=package_versions(),
            pseudo=pseudo_path,
            pseudo_id=pseudo_id,
            start=start_path,
            box_hz=manifest.box_hz,
        )
        with atomic_file(path / "config.yaml") as temporary:
            save_config(config, temporary)
        atomic_write_text(path / "run.json", json.dumps(asdict(info), indent=1))
        return cls(path, config, info)

    @classmethod
    def open(cls, path: str | Path, overrides: Sequence[str] = ()):
        """Opens a run folder.

        Args:
            path: the folder.
            overrides: such as `prediction.running_mean_s=3`; what was trained cannot change.

        Raises:
            UserError: if it is not one, or an override is not of the section `prediction`.
        """
        path = Path(path)
        fixed = [text for text in overrides if not text.startswith("prediction.")]
        if fixed:
            raise UserError(
                f"Of a trained run only prediction.* can be set. Received: --set {fixed[0]}. "
                "Train another run for the rest."
            )
        try:
            values = json.loads((path / "run.json").read_text(encoding="utf-8"))
            values["classes"] = [SpeciesClass(**c) for c in values["classes"]]
            values["mean_box_s"] = {int(k): v for k, v in values["mean_box_s"].items()}
            values["box_hz"] = {int(k): tuple(v) for k, v in values.get("box_hz", {}).items()}
            info = RunInfo(**values)
        except (OSError, ValueError, TypeError, KeyError):
            raise UserError(
                f"A run is a folder with config.yaml and run.json, made by rfcx-tf train. {path} "
                "is not one."
            ) from None
        return cls(path, load_config(path / "config.yaml", overrides), info)

    def fold(self, number: int) -> Path:
        """Folder of one fold."""
        return self.path / f"fold{number}"

    @property
    def folds_and_seed(self) -> tuple[int, int]:
        """Number of folds, and the seed of their assignment."""
        return self.config.training.folds, self.config.training.fold_seed

    @property
    def finished_folds(self) -> list[int]:
        """Folds that are trained to the end."""
        return [
            k for k in range(self.config.training.folds) if (self.fold(k) / "done.json").exists()
        ]

    def weights(self, number: int) -> Path:
        """Weights of one fold's detector."""
        return self.fold(number) / "detector.weights.h5"


def holds_something_else(folder: Path) -> bool:
    """Whether a folder has more in it than a run leaves that was killed as it began."""
    return any(p.name != "config.yaml" and not p.name.startswith(".") for p in folder.iterdir())


def _shards_in_words(folder: str, shards_id: str) -> str:
    return f"{folder} ({shards_id})" if shards_id else "none"


def package_versions(*others: str) -> dict[str, str]:
    """Versions of this project, of Python and of the packages that decide results."""
    from importlib.metadata import version

    packages = ("tensorflow", "keras", "numpy", "soundfile", "soxr", *others)
    python = ".".join(str(part) for part in sys.version_info[:3])
    own = {"rfcx_tf": rfcx_tf.__version__, "python": python}
    return own | {name: version(name) for name in packages}
