"""A listener's run on disk, which goes where a run of our own goes: predict, evaluate, ensemble.

runs/NAME/
  listener.json         config, model and its hash, classes, folds, shards, versions, command
  embeddings/           RECORDING.npz: what took the time; may be deleted when all is done
  oof_scores.csv        out-of-fold scores of whole recordings
  oof_crops.csv         out-of-fold probabilities of the windows centred on annotated rows
  fold0/ ...
    head.npz            the regressions that were fitted on the other folds
    oof_scores.csv, oof_crops.csv, checksums.json

The embedding model itself stays where it is.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from rfcx_tf.core.checksums import forget_checksums
from rfcx_tf.core.config import ListenerConfig, differences
from rfcx_tf.core.documents import DocumentError, read_json, sealed_json
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.files import atomic_write_text
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.runs.run import check_new, package_versions, refuse_other
from rfcx_tf.shards.pseudo_folder import PseudoLabels
from rfcx_tf.shards.records import Manifest

_INFO = "listener.json"


@dataclass(frozen=True)
class ListenerInfo:
    """What is known of a listener's run beside its config.

    Attributes:
        model: path of the embedding model; `model_hash` identifies its bytes.
        classes: the species, in the order of the outputs.
        folds, fold_seed: number of folds, and the seed of their assignment.
        tfrecords: folder of the shards that named rows and recordings; `shards_id` identifies
            what is in it.
        pseudo: folder of the pseudo-labels that it was also taught, identified by `pseudo_id`;
            empty if none.
        command: that trained the listener.
        versions: of Python and the packages that decide results.
    """

    model: str
    model_hash: str
    classes: list[SpeciesClass]
    folds: int
    fold_seed: int
    tfrecords: str
    shards_id: str
    command: str
    versions: dict[str, str]
    pseudo: str = ""
    pseudo_id: str = ""


class ListenerRun:
    """Paths and small files of a listener's run.

    Attributes:
        path: the folder.
        config: how the model listens, and the regressions.
        info: what is known of model and data.
        kind: tells it from the runs of other kinds, see `rfcx_tf.runs.open`.
    """

    kind = ListenerConfig.kind

    def __init__(self, path: Path, config: ListenerConfig, info: ListenerInfo):
        self.path = path
        self.config = config
        self.info = info

    @classmethod
    def create(
        cls,
        path: str | Path,
        config: ListenerConfig,
        model_path: str | Path,
        model_hash: str,
        manifest: Manifest,
        shards: str | Path,
        pseudo: PseudoLabels | None = None,
    ) -> ListenerRun:
        """Makes a run folder, or takes the one that is there to go on with its embeddings.

        Args:
            path: the folder.
            config: how the model listens. The regressions may change from call to call; they
                are fitted anew.
            model_path: the embedding model; `model_hash` is its `hash_model`.
            manifest: of the shards.
            shards: their folder.
            pseudo: pseudo-labels that are trained on as well. They may change as the regressions.

        Raises:
            UserError: if a run of another model, listening or shards is in it, or something
                else.
        """
        path = Path(path)
        if is_listener(path):
            cls.open(path)._check_same(config, model_path, model_hash, shards, manifest)
        else:
            check_new(path)
        info = ListenerInfo(
            model=str(Path(model_path).resolve()),
            model_hash=model_hash,
            classes=manifest.classes,
            folds=manifest.folds,
            fold_seed=manifest.fold_seed,
            tfrecords=str(Path(shards).resolve()),
            shards_id=manifest.shards_id,
            command=" ".join(sys.argv),
            versions=package_versions("scikit-learn"),
            pseudo=str(pseudo.folder.resolve()) if pseudo else "",
            pseudo_id=pseudo.id if pseudo else "",
        )
        run = cls(path, config, info)
        # Before the config changes: heads of another one would pass for its own.
        for fold in run.finished_folds:
            run.weights(fold).unlink()
            forget_checksums(run.fold(fold))
        values = {"config": config.model_dump(mode="json"), **asdict(info)}
        atomic_write_text(path / _INFO, sealed_json(values, indent=1))
        return run

    @classmethod
    def open(cls, path: str | Path) -> ListenerRun:
        """Opens a run folder.

        Raises:
            UserError: if it is not one of a listener.
        """
        path = Path(path)
        try:
            values = read_json(path / _INFO, "The record of a listener")
            config = ListenerConfig.model_validate(values.pop("config"))
            values["classes"] = [SpeciesClass(**c) for c in values["classes"]]
            return cls(path, config, ListenerInfo(**values))
        except DocumentError:
            raise
        except (OSError, ValueError, TypeError, KeyError):
            raise UserError(
                f"A listener's run is a folder with {_INFO}, made by rfcx-tf train. {path} is "
                "not one."
            ) from None

    def fold(self, number: int) -> Path:
        """Folder of one fold."""
        return self.path / f"fold{number}"

    def weights(self, fold: int) -> Path:
        """The regressions that held out a fold."""
        return self.fold(fold) / "head.npz"

    def whole_weights(self, fold: int) -> Path:
        """The same; the file has checksums of its own."""
        return self.weights(fold)

    @property
    def model_hash(self) -> str:
        """Identifies the embedding model."""
        return self.info.model_hash

    @property
    def folds_and_seed(self) -> tuple[int, int]:
        """Number of folds, and the seed of their assignment."""
        return self.info.folds, self.info.fold_seed

    @property
    def finished_folds(self) -> list[int]:
        """Folds whose regressions are fitted."""
        return [fold for fold in range(self.info.folds) if self.weights(fold).exists()]

    @property
    def embeddings(self) -> Path:
        """Folder of the embeddings of its recordings."""
        return self.path / "embeddings"

    @property
    def embeddings_key(self) -> str:
        """Identifies the model and how it listens."""
        return f"{self.info.model_hash} {self.config.embedding_fingerprint}"

    def _check_same(self, config, model, model_hash, shards, manifest) -> None:
        """Refuses to mix embeddings of two models, or folds of two assignments, in one folder."""
        info = self.info
        if info.shards_id != manifest.shards_id:
            began = f"{info.tfrecords} ({info.shards_id})"
            refuse_other(self.path, "shards", began, f"{shards} ({manifest.shards_id})")
        if info.model_hash != model_hash:
            began = f"{info.model} ({info.model_hash})"
            refuse_other(self.path, "model", began, f"{model} ({model_hash})")
        for key, old, new in differences(self.config.model_dump(), config.model_dump()):
            if key not in ListenerConfig.FREE:
                refuse_other(self.path, "recipe", f"{key} = {old}", new)


def is_listener(path: str | Path) -> bool:
    """Whether a folder is a listener's run."""
    return (Path(path) / _INFO).exists()
