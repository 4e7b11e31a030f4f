"""Sound file to mono waveform: the section `audio`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from rfcx_tf.core.config.section import ConfigSection

# Of `rfcx_tf.audio.decode.AudioSource`.
CHANNEL = r"mean|loudest|\d{1,2}"


class AudioConfig(ConfigSection):
    """What is listened to in a recording of several channels.

    Attributes:
        channel: `mean`, which gives way to the louder channel where it is silence; `loudest`, the
            one with the most power; or a channel's number, from 0.
    """

    channel: Annotated[str, BeforeValidator(str), Field(pattern=f"^({CHANNEL})$")] = "mean"
