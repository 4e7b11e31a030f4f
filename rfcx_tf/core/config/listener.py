"""The recipe of a listener: how a pretrained embedding model listens, and its regressions."""

from __future__ import annotations

import hashlib
from typing import ClassVar

import pydantic

from rfcx_tf.core.config.backbone import BackboneConfig
from rfcx_tf.core.config.frontend import FrontEndConfig
from rfcx_tf.core.config.section import ConfigSection, PositiveFloat, PositiveInt, Probability

_POOLINGS = ("mean", "max", "mean_max")


class NetworkConfig(ConfigSection):
    """A network of ours that listens with published weights.

    Attributes:
        frontend: its spectrograms.
        backbone: the network; its weights are the listener's model.
    """

    frontend: FrontEndConfig
    backbone: BackboneConfig


class ListenerConfig(ConfigSection):
    """A pretrained embedding model, and the logistic regressions on its embeddings.

    Attributes:
        sample_rate_hz: rate of the sound that the model takes.
        window_s: length of the sound that it takes at once.
        hop_s: distance of the windows in a whole recording.
        output: which tensor is the embedding. Of a TFLite model `output`, its first output;
            `before_last`, the tensor numbered just before that one, which is what the last
            layer takes; or a tensor's name. Of a SavedModel, the key of an output of its
            signature. Of a `network`, how its cells are pooled: `mean`, `max` or `mean_max`.
        network: a network of ours, of which the model is the weights file; None: the model is a
            TFLite file or a SavedModel.
        window_peak: every window is freed of its mean and scaled to this peak; None: as it is.
        num_threads: threads that a TFLite model uses; None: one a core.
        c: inverse strength of the L2 regularisation, scikit-learn's C.
        unknown_negative_weight: weight at which an unknown class counts as absent in a window
            with a known-present one; 0 keeps unknown classes out.
        pseudo_weight: weight of a pseudo-label, where there are any (`--pseudo`).
    """

    kind: ClassVar[str] = "listener"
    # What can change without another embedding.
    FREE: ClassVar[frozenset[str]] = frozenset(
        {"num_threads", "c", "unknown_negative_weight", "pseudo_weight"}
    )

    sample_rate_hz: PositiveInt
    window_s: PositiveFloat
    hop_s: PositiveFloat
    output: str
    network: NetworkConfig | None = None
    window_peak: PositiveFloat | None = None
    num_threads: PositiveInt | None = None
    c: PositiveFloat = 0.01
    unknown_negative_weight: Probability = 0.0
    pseudo_weight: PositiveFloat = 1.0

    @property
    def window_samples(self) -> int:
        """Samples in a window."""
        return round(self.window_s * self.sample_rate_hz)

    @property
    def hop_samples(self) -> int:
        """Samples from one window of a recording to the next."""
        return round(self.hop_s * self.sample_rate_hz)

    @property
    def embedding_fingerprint(self) -> str:
        """Differs between two configs that give other embeddings of the same model."""
        # Listeners without a network of ours are older than the key.
        without = self.FREE if self.network else self.FREE | {"network"}
        text = self.model_dump_json(exclude=set(without))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @pydantic.model_validator(mode="after")
    def _rules(self) -> ListenerConfig:
        self.require(
            self.hop_s <= self.window_s,
            f"hop_s must not exceed window_s ({self.window_s:g}), or sound is skipped",
        )
        self.require(self.hop_samples > 0, "hop_s must span at least one sample")
        if self.network:
            self.require(self.output in _POOLINGS, f"output must be one of {', '.join(_POOLINGS)}")
            rate_hz = self.network.frontend.sample_rate_hz
            self.require(
                self.sample_rate_hz == rate_hz,
                f"sample_rate_hz must be network.frontend.sample_rate_hz ({rate_hz})",
            )
            self.require(
                self.network.backbone.weights == "none",
                "network.backbone.weights must be none: --model names them",
            )
        return self
