"""What many SYNTHETIC shoppers did, as arrays: what was shown, what was clicked, and the visits to rank by.

The numbers of a visit are made by the task's own code out of the visit's events, as on a device.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from borrowed import HERE, ITEM_PAGE_VIEW, load
from generate import DAY_MS, PAGE_CARDS, START_MS, Array, Catalogue, Event, Session, Shopper, browse

behaviour = load(HERE / "task" / "behaviour.py", "behaviour")
SESSIONS = 5
#: Of each shopper's sessions, those whose pages are ranked; the earlier ones are history.
RANKED_SESSIONS = 3


@dataclass(frozen=True)
class Log:
    """One shopper. ``B`` visits and ``M`` cards shown, both in order of time."""

    closed_ms: Array  # [B]
    numbers: Array  # [B, WIDTH - 1]
    at_ms: Array  # [M]
    item: Array  # [M]
    clicked: Array  # [M]
    chance: Array  # [M]: the truth


class Reader:
    """Turns visits into the numbers that a device keeps of them, with the task's code and its encoder."""

    def __init__(self, folder: Path) -> None:
        from walle_task.authoring import read_folder, write_bundle

        self.bundle = write_bundle(read_folder(ITEM_PAGE_VIEW / "task"), folder)
        load(ITEM_PAGE_VIEW / "task" / "steps.py", "steps")  # as the task's modules import it
        self.item_page = load(ITEM_PAGE_VIEW / "task" / "main.py", "item_page")

    def read(self, visits: Sequence[Sequence[Event]]) -> Array:
        """``[B, WIDTH - 1]`` of visits."""
        from walle_task import model
        from walle_task.events import Event as TaskEvent
        from walle_task.events import Visit
        from walle_task.testing import fake_host

        steps = sys.modules["steps"]
        packed = []
        with fake_host(bundle_dir=self.bundle):
            read = [
                Visit("v", events=tuple(TaskEvent(seq, **event) for seq, event in enumerate(events)))
                for events in visits
            ]
            if not read:
                return np.zeros((0, behaviour.WIDTH - 1), np.float32)
            rows = np.array([steps.rows(visit) for visit in read], np.float32).transpose(1, 0, 2)
            found = model.load("encoder").run({"steps": np.ascontiguousarray(rows)})["interest"].tolist()
            for visit, (interest,) in zip(read, found, strict=True):
                vector = behaviour.vector_bytes(visit.events[0].args["item"]["vector"])
                assert vector is not None
                packed.append(behaviour.pack(vector, self.item_page.summarise(visit), round(interest, 4)))
        return np.frombuffer(b"".join(packed), np.float32).reshape(len(packed), -1)


@contextmanager
def open_reader() -> Generator[Reader]:
    """A reader, its encoder in a folder of its own."""
    with TemporaryDirectory(prefix="walle-recommend-") as folder:
        yield Reader(Path(folder))


def live(
    catalogue: Catalogue,
    seed: int,
    reader: Reader,
    *,
    until: int = SESSIONS,
    visits: list[list[Event]] | None = None,
) -> Log:
    """The log of one shopper's first sessions, shown pages half of the lasting taste and half of anything.

    Args:
        catalogue: all items.
        seed: the shopper's number.
        reader: makes numbers of visits.
        until: how many sessions.
        visits: takes the events of each visit, where they are wanted, too.
    """
    visits = [] if visits is None else visits
    shopper = Shopper(catalogue, seed)
    rng = np.random.default_rng([seed, 3])
    seen: set[int] = set()
    shown: list[tuple[int, int, bool, float]] = []

    def choose(_: Session) -> list[int]:
        cards = shopper.recall(rng, PAGE_CARDS, seen)
        seen.update(cards)
        return cards

    for number in range(until):
        session = shopper.session(number, START_MS + number * DAY_MS)
        seen.clear()
        for page in browse(session, choose):
            if number >= SESSIONS - RANKED_SESSIONS:
                clicked = set(page.clicked)
                for item, chance in zip(page.shown, page.chances, strict=True):
                    shown.append((page.at_ms, item, item in clicked, float(chance)))
            visits += [events for events, _ in page.visits]
    at_ms, item, clicks, chance = (np.array(column) for column in zip(*shown, strict=True))
    closed_ms = np.array([events[-1]["wall_ms"] for events in visits])
    return Log(closed_ms, reader.read(visits), at_ms, item, clicks, chance)


def histories(log: Log, at_ms: Array, delay_ms: Array) -> Array:
    """``[M, HISTORY, WIDTH]``: what is known of the shopper at each moment, if it is known so late."""
    rows = np.zeros((len(at_ms), behaviour.HISTORY, behaviour.WIDTH), np.float32)
    ends = np.searchsorted(log.closed_ms, at_ms - delay_ms, side="right")
    for row, end, now_ms in zip(rows, ends, at_ms, strict=True):
        kept = slice(max(0, end - behaviour.HISTORY), end)
        count = end - kept.start
        if count:
            row[-count:, :-1] = log.numbers[kept]
            row[-count:, -1] = np.log1p((now_ms - log.closed_ms[kept]) / 1000) / 12  # behaviour.age
    return rows


def candidate_rows(catalogue: Catalogue, items: Array) -> Array:
    """``[M, 1, WIDTH]`` of items."""
    data = behaviour.candidates(catalogue.vectors[items].astype("<f4").tobytes())
    return np.frombuffer(data, np.float32).reshape(len(items), 1, behaviour.WIDTH)
