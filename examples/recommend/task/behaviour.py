"""Visits and candidates as rows of 32 float32. Training and device share this file."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

#: Rows that the ranker looks at: the newest, behind rows of zeros where there are fewer.
HISTORY = 100
#: Rows that the session's encoder reads: the last of them.
RECENT = 20
WIDTH = 32
#: Numbers of an item's vector, as the cloud sends it.
ITEM_WIDTH = 24
ITEM_BYTES = 4 * ITEM_WIDTH

_ROW = struct.Struct("<7f")
_AGE = struct.Struct("<f")
_EMPTY = bytes(4 * WIDTH)
_CANDIDATE_END = struct.pack("<8f", 1.0, *[0.0] * 7)


def pack(vector: bytes, feature: Mapping[str, Any], interest: float) -> bytes:
    """What stays the same of a visit: the item, and what was done there; 31 float32."""
    intents = feature["cart_adds"] + feature["favourites"]
    read = feature["review_views"] + feature["question_views"] + feature["shop_visits"]
    done = _ROW.pack(
        1.0,
        math.log1p(feature["dwell_ms"] / 1000) / 5,
        feature["scroll_depth"],
        min(1.0, intents / 2),
        min(1.0, feature["sku_selections"] / 2),
        min(1.0, read / 3),
        interest,
    )
    return vector + done


def age(ms: float) -> float:
    """How long ago, on a scale where a minute is 0.3 and a day 0.9."""
    return math.log1p(max(0.0, ms) / 1000) / 12


def history(packed: Sequence[tuple[int, bytes]], now_ms: int) -> bytes:
    """``[HISTORY, WIDTH]`` of visits, oldest first, each given as when it closed and ``pack``'s bytes."""
    kept = packed[-HISTORY:]
    rows = [numbers + _AGE.pack(age(now_ms - closed_ms)) for closed_ms, numbers in kept]
    return b"".join([_EMPTY] * (HISTORY - len(kept)) + rows)


def candidates(vectors: bytes) -> bytes:
    """``[N, 1, WIDTH]`` of the vectors of N items, one behind the other."""
    starts = range(0, len(vectors), ITEM_BYTES)
    return b"".join(vectors[start : start + ITEM_BYTES] + _CANDIDATE_END for start in starts)


def vector_bytes(text: object) -> bytes | None:
    """An item's vector as the cloud writes it, in Base64; None if it is not one."""
    try:
        data = base64.b64decode(str(text), validate=True)
    except ValueError:
        return None
    return data if len(data) == ITEM_BYTES else None
