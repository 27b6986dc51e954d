"""How a record lies in a journal's file, and how it is found again when bytes around it are damaged.

A frame is a mark of four bytes, the payload's length and its CRC-32 (both little-endian, 32 bits), and the payload.
The mark begins with 0xFF, which no UTF-8 text holds, so behind damage the next record is found by its mark; its
checksum then says whether it is one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

MARK = b"\xffNJ1"
_HEAD = struct.Struct("<4sII")
MAX_PAYLOAD = 64 * 2**20
"""Longest payload, in bytes; a greater length is damage."""


class Frame(NamedTuple):
    """A record that was found whole.

    Args:
        start: Where its frame begins.
        end: Where the next one begins.
        payload: Its content.
    """

    start: int
    end: int
    payload: bytes


class Damage(NamedTuple):
    """Bytes that are no record, with records behind them.

    Args:
        start: Where they begin.
        end: Where the next record begins.
    """

    start: int
    end: int


def frame(payload: bytes) -> bytes:
    """A payload with its mark, length and checksum."""
    return _HEAD.pack(MARK, len(payload), crc32(payload)) + payload


def scan(data: bytes) -> Iterator[Frame | Damage]:
    """The records in a piece of a file, and the damage between them.

    It ends with the last whole record: what follows that is a record that is being written, or a torn one, or damage
    up to the end; who reads knows which.

    Args:
        data: Bytes, from the beginning of a frame.
    """
    place = 0
    while True:
        found = _frame_at(data, place)
        if found is None:
            found = _behind_damage(data, place)
            if found is None:
                return
            yield Damage(place, found.start)
        yield found
        place = found.end


def _behind_damage(data: bytes, place: int) -> Frame | None:
    while (place := data.find(MARK, place + 1)) >= 0:
        if (found := _frame_at(data, place)) is not None:
            return found
    return None


def _frame_at(data: bytes, place: int) -> Frame | None:
    body = place + _HEAD.size
    if body > len(data):
        return None
    mark, length, checksum = _HEAD.unpack_from(data, place)
    end = body + length
    if mark != MARK or length > MAX_PAYLOAD or end > len(data):
        return None
    payload = data[body:end]
    return Frame(place, end, payload) if crc32(payload) == checksum else None
