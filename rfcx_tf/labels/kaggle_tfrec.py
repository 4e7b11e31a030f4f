"""The competition's .tfrec files -> where each recording's WAV bytes lie, and its rows.

Written by hand instead of with TensorFlow, so that the audio is not read to list it and any
worker process can read a recording by seeking.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rfcx_tf.audio.decode import AudioSource
from rfcx_tf.core.errors import UserError


@dataclass(frozen=True)
class TfrecRecord:
    """One recording in a TFRecord file of the competition.

    Attributes:
        recording_id: its name.
        audio: where its WAV bytes lie.
        label_info: its rows as one string, see `annotations`; empty in the test set.
    """

    recording_id: str
    audio: AudioSource
    label_info: str


def index_tfrec(path: Path) -> list[TfrecRecord]:
    """Lists the recordings in one of the competition's .tfrec files.

    The audio is skipped over, not read: the real files hold 27 GB. That is also why this
    follows the protobuf wire format by hand instead of parsing whole messages.

    Raises:
        UserError: where the file is cut short or does not follow the competition's schema.
    """
    records = []
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = 0
            while start < size:
                # A record is its length (8 bytes), a checksum (4), the message, a checksum (4).
                file.seek(start)
                (length,) = struct.unpack("<Q", file.read(8))
                message = (start + 12, start + 12 + length)
                start = message[1] + 4
                if start > size:
                    raise ValueError("a record reaches beyond the end of the file")
                spans = _byte_features(file, message)
                audio_start, audio_end = spans["audio_wav"]
                records.append(
                    TfrecRecord(
                        recording_id=_text(file, spans["recording_id"]),
                        audio=AudioSource(path, audio_start, audio_end - audio_start),
                        label_info=_text(file, spans.get("label_info", (0, 0))),
                    )
                )
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except KeyError as error:
        raise UserError(
            f"{path}: a record must have the byte features recording_id and audio_wav. "
            f"Record {len(records) + 1} lacks {error}."
        ) from None
    except (ValueError, struct.error) as error:
        raise UserError(
            f"{path} is cut short or no TFRecord file: record {len(records) + 1}: {error}."
        ) from None
    return records


Span = tuple[int, int]  # first byte in a file, and the one after the last


def _byte_features(file: BinaryIO, example: Span) -> dict[str, Span]:
    """Where the first value of every bytes feature of a tf.train.Example lies."""
    spans = {}
    for _, features in _fields(file, example):
        for _, entry in _fields(file, features):
            # A map entry: the name is field 1, the Feature 2, whose bytes_list is field 1.
            parts = dict(_fields(file, entry))
            for kind, values in _fields(file, parts[2]):
                if kind == 1:
                    spans[_text(file, parts[1])] = next(
                        (value for _, value in _fields(file, values)), (0, 0)
                    )
    return spans


def _fields(file: BinaryIO, message: Span) -> Iterator[tuple[int, Span]]:
    """Number and place of the fields of a protobuf message whose fields all have a length."""
    position, end = message
    while position < end:
        file.seek(position)
        number, wire_type = divmod(_varint(file), 8)
        if wire_type != 2:
            raise ValueError(f"wire type {wire_type} where tf.train.Example has only 2")
        length = _varint(file)
        start = file.tell()
        position = start + length
        if position > end:
            raise ValueError("a field reaches beyond the end of its message")
        yield number, (start, position)


def _varint(file: BinaryIO) -> int:
    value = shift = 0
    while True:
        byte = file.read(1)
        if not byte:
            raise ValueError("the file ends inside a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
        shift += 7


def _text(file: BinaryIO, span: Span) -> str:
    file.seek(span[0])
    return file.read(span[1] - span[0]).decode("utf-8")
