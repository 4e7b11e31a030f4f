"""A folder of numbered SavedModels -> the newest that loads, exchanged while requests run."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse, ModelVersionStatus

from rfcx_tf.core.errors import UserError
from rfcx_tf.serving.server.metrics import Metrics
from rfcx_tf.serving.server.model import ServedModel
from rfcx_tf.serving.server.status import ServingError, invalid_argument, op_message

log = logging.getLogger(__name__)

_DIGITS = re.compile("[0-9]+")
# The protocol carries versions as int64.
_MAX_VERSION = 2**63 - 1


class _Serving:
    """A model that is served, and how many requests hold it."""

    def __init__(self, model: ServedModel):
        self.model = model
        self.requests = 0
        self.idle = asyncio.Event()
        self.idle.set()


class Versions:
    """Serves the highest version of one model and follows its folder.

    A new version is loaded and warmed up beside the old one. Then it takes all new requests at
    once, and the old one is dropped when its last request has ended. A folder that does not load
    is refused, and tried again only when something in it has changed.
    """

    def __init__(self, name: str, folder: Path, metrics: Metrics):
        self.name = name
        self._folder = folder
        self._metrics = metrics
        self._serving: _Serving | None = None
        self._states: dict[int, ModelVersionStatus] = {}
        # What a folder looked like at the last look, and when it was refused.
        self._seen: dict[int, tuple] = {}
        self._refused: dict[int, tuple] = {}
        # Names of folders whose numbers no client could ask for.
        self._beyond: set[str] = set()
        self._retiring: set[asyncio.Task] = set()

    async def start(self) -> None:
        """Loads the highest version that loads; UserError if none does."""
        await self._look(settled=False)
        if self._serving is None:
            for version in sorted(self._refused, reverse=True):
                raise UserError(
                    f"A version of the model must load. {self._folder / str(version)} does not: "
                    f"{self._states[version].status.error_message} Export it again."
                )
            raise UserError(
                f"--model must be a folder with numbered SavedModels, as rfcx-tf export writes it. "
                f"{self._folder} has none."
            )

    async def watch(self, poll_s: float) -> None:
        """Looks at the folder again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(poll_s)
            try:
                await self._look(settled=True)
            except Exception:
                log.exception("Looking for new versions in %s failed.", self._folder)

    @property
    def current(self) -> ServedModel | None:
        """The model that takes requests."""
        return self._serving and self._serving.model

    @contextmanager
    def use(self, name: str, version: int | None, label: str) -> Iterator[ServedModel]:
        """Holds the model that a request asks for; it stays loaded until the block ends.

        Raises:
            ServingError: NOT_FOUND for another model or version, INVALID_ARGUMENT for a label.
        """
        _refuse_label(label)
        serving = self._serving
        if name != self.name or serving is None or version not in (None, serving.model.version):
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            available = f"{self.name}, version {serving.model.version}" if serving else "no model"
            raise ServingError(
                grpc.StatusCode.NOT_FOUND,
                f"Servable not found for request: {wanted}. Served here: {available}.",
            )
        serving.requests += 1
        serving.idle.clear()
        try:
            yield serving.model
        finally:
            serving.requests -= 1
            if not serving.requests:
                serving.idle.set()

    def status(self, name: str, version: int | None, label: str) -> GetModelStatusResponse:
        """The states of all versions that were loaded or refused, the highest first, or of one.

        Raises:
            ServingError: NOT_FOUND for another model or version, INVALID_ARGUMENT for a label.
        """
        _refuse_label(label)
        states = self._states if name == self.name else {}
        chosen = [states[v] for v in sorted(states, reverse=True) if version in (None, v)]
        if not chosen:
            wanted = "any versions" if version is None else f"version {version}"
            raise ServingError(
                grpc.StatusCode.NOT_FOUND, f"Could not find {wanted} of model {name}"
            )
        return GetModelStatusResponse(model_version_status=chosen)

    async def _look(self, settled: bool) -> None:
        """Loads the highest version that loads, if it is above the present one. With `settled` its
        folder must be as it was at the last look: one that changes is still being copied."""
        folders, beyond = await asyncio.to_thread(_version_folders, self._folder)
        for name in beyond - self._beyond:
            log.warning("Passed over %s in %s: versions go up to 2^63 - 1.", name, self._folder)
        self._beyond = beyond
        present = self._serving.model.version if self._serving else None
        for gone in self._seen.keys() - folders.keys():
            del self._seen[gone]
            self._refused.pop(gone, None)
        for version in sorted(folders, reverse=True):
            if version == present:
                return
            looks = await asyncio.to_thread(_looks_of, folders[version])
            before, self._seen[version] = self._seen.get(version), looks
            if self._refused.get(version) == looks:
                continue
            if settled and before != looks:
                return
            if await self._load(version, folders[version]):
                self._refused.pop(version, None)
                return
            self._refused[version] = looks

    async def _load(self, version: int, folder: Path) -> bool:
        self._set_state(version, ModelVersionStatus.LOADING)
        try:
            model, warmed_up = await asyncio.to_thread(_load_model, folder, version)
        except Exception as error:
            # Of any kind, by what lies in the folder; the old version serves on.
            lines = op_message(error).splitlines() or [type(error).__name__]
            # Protobuf refuses what is not UTF-8, such as the bytes of some file names.
            line = lines[0][:500].encode("utf-8", "replace").decode("utf-8")
            message = f"{line.rstrip('.')}."
            self._set_state(version, ModelVersionStatus.END, grpc.StatusCode.UNKNOWN, message)
            self._metrics.loads.labels("refused").inc()
            log.error("Refused version %d of %s: %s", version, self.name, message)
            return False
        old, self._serving = self._serving, _Serving(model)
        self._set_state(version, ModelVersionStatus.AVAILABLE)
        self._metrics.loads.labels("loaded").inc()
        self._metrics.version.set(version)
        log.info("Serves version %d of %s (%d warm-up requests).", version, self.name, warmed_up)
        if old is not None:
            task = asyncio.create_task(self._retire(old))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        return True

    async def _retire(self, old: _Serving) -> None:
        version = old.model.version
        self._set_state(version, ModelVersionStatus.UNLOADING)
        await old.idle.wait()
        del old.model
        # Functions and their graphs refer to each other: without this they would stay for long.
        await asyncio.to_thread(gc.collect)
        self._set_state(version, ModelVersionStatus.END)
        log.info("Dropped version %d of %s.", version, self.name)

    def _set_state(
        self,
        version: int,
        state: int,
        code: grpc.StatusCode = grpc.StatusCode.OK,
        message: str = "",
    ) -> None:
        status = {"error_code": code.value[0], "error_message": message}
        self._states[version] = ModelVersionStatus(version=version, state=state, status=status)


def _refuse_label(label: str) -> None:
    if label:
        raise invalid_argument(
            f"Unrecognized servable version label: {label}. This server has no labels."
        )


def _load_model(folder: Path, version: int) -> tuple[ServedModel, int]:
    model = ServedModel(folder, version)
    return model, model.warm_up(folder)


def version_number(digits: str) -> int | None:
    """The version that digits name; None beyond what the protocol can carry."""
    digits = digits.lstrip("0") or "0"
    # Python refuses to read thousands of digits.
    version = int(digits) if len(digits) <= len(str(_MAX_VERSION)) else None
    return None if version is None or version > _MAX_VERSION else version


def _version_folders(folder: Path) -> tuple[dict[int, Path], set[str]]:
    """The folders by version, and the names of those whose number is too large for one."""
    try:
        numbered = [p for p in sorted(folder.iterdir()) if _DIGITS.fullmatch(p.name) and p.is_dir()]
    except OSError:
        return {}, set()
    versions = {path: version_number(path.name) for path in numbered}
    folders = {number: path for path, number in versions.items() if number is not None}
    return folders, {path.name for path, number in versions.items() if number is None}


def _looks_of(folder: Path) -> tuple:
    """Names, sizes and times of a folder's files."""
    try:
        paths = sorted(folder.rglob("*"))
    except OSError as error:
        # A folder that cannot be searched must not keep others from being looked at.
        return (str(error),)
    looks = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            continue
        looks.append((str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns))
    return tuple(looks)
