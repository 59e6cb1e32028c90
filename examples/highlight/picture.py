"""A frame on a terminal: two pixels a character, by half blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.text import Text

type Array = np.ndarray[Any, np.dtype[Any]]


def draw(pixels: Array, columns: int = 32) -> Text:
    """Draw ``[side, side, 3]`` bytes in as many characters across, and half as many down."""
    step = len(pixels) // columns
    small = pixels[: step * columns, : step * columns].reshape(columns, step, columns, step, 3)
    dots = small.mean((1, 3)).astype(int)
    text = Text(no_wrap=True)
    for row in range(0, columns, 2):
        for upper, lower in zip(dots[row], dots[row + 1], strict=True):
            text.append("▀", style=f"{_colour(upper)} on {_colour(lower)}")
        text.append("\n")
    return text


def _colour(dot: Array) -> str:
    red, green, blue = dot
    return f"#{red:02x}{green:02x}{blue:02x}"
