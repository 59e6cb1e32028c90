"""From the senses of the last ticks to one score: is this tick part of a highlight?"""

from collections.abc import Mapping
from typing import Any

from senses import sigmoid

from walle_task import model

#: How many ticks are looked at, the newest last.
WINDOW = 6
#: known, held, sure, sold, face, spoken, same item as in the tick before, sensed by the cloud's models.
FEATURES = 8
UNKNOWN = [0.0] * FEATURES


def features(senses: Mapping[str, Any], before: int | None) -> list[float]:
    """One row of the fusion model's input.

    Args:
        senses: of the tick, with ``held``, ``item`` and so on, and ``by_cloud`` where it is the cloud's.
        before: the item of the tick before, or None.
    """
    same = float(before is not None and senses["item"] == before)
    scores = (senses["held"], senses["sure"], senses["sold"], senses["face"], senses["spoken"])
    return [1.0, *scores, same, float(senses.get("by_cloud", False))]


def window(history: Mapping[int, Mapping[str, Any]], number: int) -> list[list[float]]:
    """The rows of the last ticks, ``[WINDOW][FEATURES]``; a tick that is not known is all zeros.

    Args:
        history: senses by number of tick.
        number: of the newest.
    """
    rows = []
    for at in range(number - WINDOW + 1, number + 1):
        now, before = history.get(at), history.get(at - 1)
        rows.append(features(now, before["item"] if before else None) if now else UNKNOWN)
    return rows


def fuse(history: Mapping[int, Mapping[str, Any]], number: int, name: str) -> float:
    """The score of a tick."""
    steps = [[row] for row in window(history, number)]
    ((logit,),) = model.load(name).run({"steps": steps})["score"].tolist()
    return sigmoid(logit)
