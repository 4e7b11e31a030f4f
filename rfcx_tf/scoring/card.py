"""What anything that scores windows says of itself: one card, in one JSON form.

Runs, SavedModels, LiteRT files, servers and tables of windows carry it. Nothing else declares
these values.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rfcx_tf.core.documents import parse_json, sealed_json
from rfcx_tf.core.errors import UserError
from rfcx_tf.core.species import SpeciesClass
from rfcx_tf.scoring.calibration import Calibration, calibration_content, calibration_from_content

CARD_VERSION = 1
# From which score a window counts where nobody has chosen a threshold.
UNCALIBRATED_THRESHOLD = 0.5


@dataclass(frozen=True, eq=False)
class ModelCard:
    """One immutable description of a model.

    Window i begins i * hop_s seconds into the recording.

    Attributes:
        classes: the species, in the order of the scores.
        sample_rate_hz: of the waveforms that the model takes.
        window_s, hop_s: length of a window, and from the beginning of one to that of the next.
        window_centre_s: for every class, from a window's beginning to the middle of the sound
            that decides the class there.
        mean_box_s: for every class, the mean length of its TP boxes; NaN where it has none.
        box_hz: for every class, lower and upper bound in Hz of its usual band; NaN where unknown.
        ends_inside: whether the last window ends with the recording or before; else it may reach
            beyond, into silence.
        smoothing: what is done to window scores before the highest of them is the recording's, in
            words; empty: nothing.
        calibration: makes probabilities of scores, and has the thresholds; None: uncalibrated.
        frontend: fingerprint of what makes frames of the waveform; models with the same one can
            share them. Empty where it is not known.
        made_by: where the model comes from, in words: a run's folder, a server's address.
    """

    classes: tuple[SpeciesClass, ...]
    sample_rate_hz: int
    window_s: float
    hop_s: float
    window_centre_s: tuple[float, ...]
    mean_box_s: tuple[float, ...]
    box_hz: tuple[tuple[float, float], ...]
    ends_inside: bool = True
    smoothing: str = ""
    calibration: Calibration | None = None
    frontend: str = ""
    made_by: str = ""

    def __eq__(self, other: object) -> bool:
        # Arrays in a calibration, and NaN, have no equality of their own.
        return isinstance(other, ModelCard) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    @property
    def columns(self) -> list[str]:
        """Of a table of scores: s<species_id>."""
        return [c.column for c in self.classes]

    @property
    def thresholds(self) -> np.ndarray:
        """float32 [classes], of probabilities if there is a calibration, else of scores."""
        if self.calibration is not None:
            return self.calibration.thresholds
        return np.full(len(self.classes), UNCALIBRATED_THRESHOLD, np.float32)

    @property
    def score_thresholds(self) -> np.ndarray:
        """The thresholds in units of scores, float32 [classes]."""
        return self.thresholds if self.calibration is None else self.calibration.score_thresholds()

    def centres_s(self, windows: int, duration_s: float = math.inf) -> np.ndarray:
        """Centres of the first so many windows for every class, float64 [windows, classes].

        A window that reaches beyond the recording counts as the part inside.
        """
        begin_s = np.arange(windows)[:, np.newaxis] * self.hop_s
        centre_s = np.asarray(self.window_centre_s)
        half_s = np.minimum(centre_s, self.window_s - centre_s)
        first_s = np.minimum(begin_s + (centre_s - half_s), duration_s)
        last_s = np.minimum(begin_s + (centre_s + half_s), duration_s)
        return (first_s + last_s) / 2

    def same_windows(self, other: ModelCard) -> bool:
        """Whether window i is the same stretch of sound for both, to less than a window's hop."""
        return (
            math.isclose(self.window_s, other.window_s)
            and math.isclose(self.hop_s, other.hop_s)
            # Runs on other boxes may have centres that differ by less than windows are apart.
            and np.allclose(self.window_centre_s, other.window_centre_s, rtol=0, atol=self.hop_s)
            and self.ends_inside == other.ends_inside
        )

    def replace(self, **changes) -> ModelCard:
        """A card with other values."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """The card as sealed JSON text; NaN is null."""
        values = {
            "version": CARD_VERSION,
            "classes": [dataclasses.asdict(c) for c in self.classes],
            "sample_rate_hz": self.sample_rate_hz,
            "window_s": self.window_s,
            "hop_s": self.hop_s,
            "window_centre_s": list(self.window_centre_s),
            "mean_box_s": [_null(value) for value in self.mean_box_s],
            "box_hz": [[_null(bound) for bound in bounds] for bounds in self.box_hz],
            "ends_inside": self.ends_inside,
            "smoothing": self.smoothing,
            "calibration": self.calibration and calibration_content(self.calibration),
            "frontend": self.frontend,
            "made_by": self.made_by,
        }
        return sealed_json(values)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Reads `to_json`.

        Raises:
            UserError: if it is no card, damaged, or one of a later version.
        """
        try:
            values = parse_json(text)
            version = values.pop("version")
            if version > CARD_VERSION:
                raise UserError(
                    f"The model's card must be of version {CARD_VERSION} or earlier. Found "
                    f"{version}. Update rfcx-tf."
                )
            calibration = values.pop("calibration")
            return cls(
                classes=tuple(SpeciesClass(**c) for c in values.pop("classes")),
                window_centre_s=tuple(values.pop("window_centre_s")),
                mean_box_s=tuple(_nan(value) for value in values.pop("mean_box_s")),
                box_hz=tuple((_nan(low), _nan(high)) for low, high in values.pop("box_hz")),
                calibration=calibration and calibration_from_content(calibration),
                **values,
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"A model's card is JSON as rfcx-tf writes it. Found another text: {error}."
            ) from None


def by_class(
    classes: Sequence[SpeciesClass], values: Mapping[int, float | tuple[float, float]], missing
) -> tuple:
    """Values by species id as a tuple in the order of the classes."""
    return tuple(values.get(c.species_id, missing) for c in classes)


def _null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
