"""From decisions, tick by tick, to highlights. Pure: the same rows give the same spans, whoever runs first.

Runs of one task may overlap, so a run may not see the row of the tick just before. A span is therefore only
looked at ``LAG`` ticks after it may have ended: by then, all its rows are there. Each number of tick comes
once, so each span is told once.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

type Rows = Mapping[int, Mapping[str, Any]]

#: So many ticks without a decision for it may lie within a highlight.
GAP = 2
#: A highlight has at least so many accepted ticks.
LEAST = 3
#: How much later than it could be, a span is looked at.
LAG = 3


def ended(rows: Rows, number: int) -> dict[str, Any] | None:
    """The span that ended for good at tick ``number``, or None.

    Args:
        rows: by number of tick: ``accepted``, ``item``, ``score`` and ``by``.
        number: of the last of ``GAP + 1`` ticks that are not accepted.
    """
    last = number - GAP - 1
    if not _accepted(rows, last) or any(_accepted(rows, at) for at in range(last + 1, number + 1)):
        return None
    return _back_from(rows, last)


def _back_from(rows: Rows, last: int) -> dict[str, Any] | None:
    """The span whose last tick is ``last``."""
    first = at = last
    while first - at <= GAP + 1 and at >= 0:
        if _accepted(rows, at):
            first = at
        at -= 1
    mine = [rows[at] for at in range(first, last + 1) if _accepted(rows, at)]
    if len(mine) < LEAST:
        return None
    ((item, _),) = Counter(row["item"] for row in mine).most_common(1)
    return {
        "item": item,
        "first": first,
        "last": last,
        "score": round(sum(row["score"] for row in mine) / len(mine), 4),
        "by_cloud": sum(row["by"] == "cloud" for row in mine),
    }


def _accepted(rows: Rows, number: int) -> bool:
    return number in rows and bool(rows[number]["accepted"])
