"""A run of detectors or of a baseline on disk: what is needed to understand, repeat and use it.

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
    checksums.json        of weights and tables
    done.json             figures of the finished fold
    run.json              of a fold that --join brought here: of the run that it was in

A fold of a baseline holds regressions.npz, the two tables and done.json.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NoReturn

import rfcx_tf
from rfcx_tf.core.config import Config, differences, load_recipe_of_any_kind, save_config
from rfcx_tf.core.documents import DocumentError, read_json, sealed_json
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_file, atomic_write_text
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.runs.kept import keep_checksums, of_fold
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
        boxes: whether the detectors say where a call lies; those of older runs do not.
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
    boxes: bool = False


class RunFolder:
    """Paths and small files of a run of detectors or of a baseline.

    Attributes:
        path: the folder.
        config: the recipe.
        info: what is known of its data.
        kind: of the recipe; tells it from the runs of other kinds, see `rfcx_tf.runs.open`.
        model_hash: of the model below what was trained; here there is none.
    """

    model_hash = ""

    def __init__(self, path: Path, config: Config, info: RunInfo):
        self.path = path
        self.config = config
        self.info = info
        self.kind = config.kind

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
        info = RunInfo(
            classes=manifest.classes,
            mean_box_s=manifest.mean_box_s,
            frontend_fingerprint=manifest.frontend_fingerprint,
            tfrecords=str(Path(shards).resolve()),
            shards_id=manifest.shards_id,
            recordings=len(manifest.recordings),
            counts=manifest.counts,
            command=" ".join(sys.argv),
            versions=package_versions(*(["scikit-learn"] if config.kind == "baseline" else [])),
            pseudo=str(pseudo.folder.resolve()) if pseudo else "",
            pseudo_id=pseudo.id if pseudo else "",
            start=str(start.path.resolve()) if start else "",
            box_hz=manifest.box_hz,
            boxes=config.kind == "detector",
        )
        if (path / "run.json").exists():
            run = cls.open(path)
            run._check_same(config, info)
            return run
        check_new(path)
        with atomic_file(path / "config.yaml") as temporary:
            save_config(config, temporary)
        atomic_write_text(path / "run.json", sealed_json(asdict(info), indent=1))
        return cls(path, config, info)

    def _check_same(self, config: Config, info: RunInfo) -> None:
        """Refuses to go on with another recipe or other data."""
        own = self.info
        if self.kind != config.kind:
            refuse_other(self.path, "kind of recipe", self.kind, config.kind)
        changed = differences(self.config.model_dump(), config.model_dump())
        if changed:
            key, old, new = changed[0]
            more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
            refuse_other(self.path, "recipe", f"{key} = {old}", f"{new}{more}")
        if own.shards_id != info.shards_id:
            shards = [f"{of.tfrecords} ({of.shards_id})" for of in (own, info)]
            refuse_other(self.path, "shards", *shards)
        if own.pseudo_id != info.pseudo_id:
            labels = [
                f"{of.pseudo} ({of.pseudo_id})" if of.pseudo else "none" for of in (own, info)
            ]
            refuse_other(self.path, "pseudo-labels", *labels)
        if own.start != info.start:
            refuse_other(self.path, "start", own.start or "none", info.start or "none")

    @classmethod
    def open(cls, path: str | Path, overrides: Sequence[str] = ()):
        """Opens a run folder.

        Args:
            path: the folder.
            overrides: such as `prediction.running_mean_s=3`; what was trained cannot change.

        Raises:
            UserError: if it is not one or is damaged, or an override is not of the section
                `prediction`.
        """
        path = Path(path)
        fixed = [text for text in overrides if not text.startswith("prediction.")]
        if fixed:
            raise UserError(
                f"Of a trained run only prediction.* can be set. Received: --set {fixed[0]}. "
                "Train another run for the rest."
            )
        try:
            values = read_json(path / "run.json", "The record of a run")
            values["classes"] = [SpeciesClass(**c) for c in values["classes"]]
            values["mean_box_s"] = {int(k): v for k, v in values["mean_box_s"].items()}
            values["box_hz"] = {int(k): tuple(v) for k, v in values.get("box_hz", {}).items()}
            info = RunInfo(**values)
        except DocumentError:
            raise
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            raise UserError(
                f"A run is a folder with config.yaml and run.json, made by rfcx-tf train. {path} "
                "is not one."
            ) from None
        config = load_recipe_of_any_kind(path / "config.yaml", overrides, sealed=True)
        return cls(path, config, info)

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
        folds = range(self.config.training.folds)
        return [fold for fold in folds if (self.fold(fold) / "done.json").exists()]

    def figures(self, fold: int) -> dict:
        """Figures of a finished fold, as in `done.json`.

        Raises:
            UserError: if that is damaged.
        """
        return read_json(self.fold(fold) / "done.json", "The record of a fold")

    def finish(self, fold: int, figures: dict) -> None:
        """Marks a fold as finished: the last file that is written of it."""
        keep_checksums(self.fold(fold))
        text = sealed_json({"fold": fold, **figures}, indent=1)
        atomic_write_text(self.fold(fold) / "done.json", text)

    def weights(self, fold: int) -> Path:
        """Weights of one fold's detector, or its regressions."""
        name = "regressions.npz" if self.kind == "baseline" else "detector.weights.h5"
        return self.fold(fold) / name

    def whole_weights(self, fold: int) -> Path:
        """The same, if they are as they were written.

        Raises:
            UserError: if they are damaged.
        """
        return of_fold(self.weights(fold))


def check_new(path: Path) -> None:
    """Refuses a folder that holds something else than a run, see `holds_something_else`."""
    if path.exists() and (not path.is_dir() or holds_something_else(path)):
        raise UserError(
            f"A run needs a new or empty folder. {path} holds something else. Name another --run."
        )


def refuse_other(path: Path, what: str, began: str, found: str) -> NoReturn:
    """Refuses to go on with a run in another way than it began."""
    raise UserError(
        f"A run goes on with the {what} that it began with. {path} began with {began}, not "
        f"{found}. Name another --run."
    )


def holds_something_else(folder: Path) -> bool:
    """Whether a folder has more in it than a run leaves that was killed as it began."""
    return any(p.name != "config.yaml" and not p.name.startswith(".") for p in folder.iterdir())


def package_versions(*others: str) -> dict[str, str]:
    """Versions of this project, of Python and of the packages that decide results."""
    from importlib.metadata import version

    packages = ("tensorflow", "keras", "numpy", "soundfile", "soxr", *others)
    python = ".".join(str(part) for part in sys.version_info[:3])
    own = {"rfcx_tf": rfcx_tf.__version__, "python": python}
    return own | {name: version(name) for name in packages}
