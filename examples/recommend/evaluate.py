"""How well the rankers do on SYNTHETIC shoppers that they were never trained on.

    .venv/bin/python examples/recommend/evaluate.py

``offline`` ranks cards that were shown at random, by what had been known of the shopper at that moment, or
some time before. ``online`` shows pages by each way of ranking to the same shoppers, who click by their
true chances, and counts. The truth, which no ranker can beat but by luck, stands beside both.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console
from rich.table import Table

from borrowed import HERE
from dataset import SESSIONS, Array, Log, Reader, behaviour, candidate_rows, histories, live, open_reader
from generate import (
    DAY_MS,
    PAGE_CARDS,
    REQUEST_CARDS,
    REQUEST_PAGES,
    SESSION_PAGES,
    START_MS,
    Catalogue,
    Event,
    Session,
    Shopper,
    browse,
)
from metrics import auc, gauc, interval

#: Shoppers that the networks are never trained on have numbers from here.
HELD_FROM = 100_000
#: How long after a visit its feature is there: on the device, and as pipelines in a cloud deliver it.
DELAYS_S: Mapping[str, float] = {"fresh": 0.0, "30 s": 30.0, "5 min": 300.0, "1 day": 86_400.0}
#: What the tunnel takes to bring an encoding, generously.
TUNNEL_S = 0.1
CHUNK = 512


class Rankers:
    """The committed networks, run by the engine."""

    def __init__(self, folder: Path = HERE) -> None:
        from walle_engine import api, convert

        with TemporaryDirectory(prefix="walle-recommend-") as made:
            names = {"din": "task/model/din", "session": "task/model/session", "cloud": "cloud"}
            for name, place in names.items():
                convert.convert(folder / f"{place}.onnx", Path(made) / f"{name}.wmodel")
            self._sessions = {name: api.load(Path(made) / f"{name}.wmodel").session() for name in names}

    def din(self, past: Array, items: Array) -> Array:
        """``[N]`` by attention; ``past`` is each candidate's, or one for all."""
        return self._run("din", history=past, candidates=items)["logits"]

    def gru(self, past: Array, items: Array) -> Array:
        """``[N]`` as the cloud ranks by the session's state."""
        recent = np.ascontiguousarray(past[:, -behaviour.RECENT :].transpose(1, 0, 2))
        return self._run("cloud", state=self._run("session", recent=recent)["state"], candidates=items)[
            "logits"
        ]

    def _run(self, name: str, **inputs: Array) -> dict[str, Array]:
        return {key: np.array(value) for key, value in self._sessions[name].run(inputs).items()}


@dataclass(frozen=True)
class Quality:
    """How good a ranking is: over all cards, and within each shopper's."""

    auc: float
    gauc: float


def offline(rankers: Rankers, catalogue: Catalogue, logs: Sequence[Log]) -> dict[str, dict[str, Quality]]:
    """Quality by network and delay; that of the truth; and of ``both``: DIN a day late, with the encoding."""
    clicked = np.concatenate([log.clicked for log in logs])
    groups = np.repeat(np.arange(len(logs)), [len(log.at_ms) for log in logs])
    truth = np.concatenate([log.chance for log in logs])

    def judge(scores: Array) -> Quality:
        return Quality(auc(scores, clicked), gauc(scores, clicked, groups))

    def score(rank: Callable[[Array, Array], Array], delay_s: float) -> Array:
        return np.concatenate([_score(rank, catalogue, log, 1000 * delay_s) for log in logs])

    by_din = {delay: score(rankers.din, seconds) for delay, seconds in DELAYS_S.items()}
    by_gru = {delay: score(rankers.gru, seconds) for delay, seconds in DELAYS_S.items()}
    return {
        "DIN": {delay: judge(scores) for delay, scores in by_din.items()},
        "GRU": {delay: judge(scores) for delay, scores in by_gru.items()},
        "both": {"": judge(by_din["1 day"] + score(rankers.gru, TUNNEL_S))},
        "truth": {"": judge(truth)},
    }


def _score(rank: Callable[[Array, Array], Array], catalogue: Catalogue, log: Log, delay_ms: float) -> Array:
    """Scores of what one shopper was shown."""
    scores = []
    for start in range(0, len(log.at_ms), CHUNK):
        at_ms = log.at_ms[start : start + CHUNK]
        past = histories(log, at_ms, np.full(len(at_ms), delay_ms))
        scores.append(rank(past, candidate_rows(catalogue, log.item[start : start + CHUNK])))
    return np.concatenate(scores)


class Known:
    """What is known of a shopper: the visits of a log, and those that are added as they end."""

    def __init__(self, log: Log, reader: Reader) -> None:
        self._log, self._reader = log, reader

    def add(self, visits: Sequence[Sequence[Event]]) -> None:
        """Visits that have just ended."""
        self._log = replace(
            self._log,
            closed_ms=np.append(self._log.closed_ms, [events[-1]["wall_ms"] for events in visits]).astype(
                int
            ),
            numbers=np.concatenate([self._log.numbers, self._reader.read(visits)]),
        )

    def at(self, now_ms: int, delay_ms: float) -> Array:
        """``[1, HISTORY, WIDTH]`` of what has arrived by now."""
        return histories(self._log, np.array([now_ms]), np.array([delay_ms]))


@dataclass(frozen=True)
class Policy:
    """A way of ranking a feed.

    Attributes:
        network: ``din``; ``both``, by a history of the day before and the session's encoding; ``truth``, by
            the chances themselves; ``""``: the order of recall stays.
        delay_s: how late a visit is known.
        again: what has not been shown is ranked before each page, not only when candidates are asked for.
    """

    network: str
    delay_s: float = 0.0
    again: bool = False


POLICIES: Mapping[str, Policy] = {
    "recall's order": Policy(""),
    "cloud, 1 day": Policy("din", 86_400.0),
    "cloud, 5 min": Policy("din", 300.0),
    "cloud, 30 s": Policy("din", 30.0),
    "cloud, 1 day, and the encoding": Policy("both", TUNNEL_S),
    "device": Policy("din", again=True),
    "the truth": Policy("truth", again=True),
}
#: What the others are compared with: about what the paper says of its cloud's features (33.73 s).
BASE = "cloud, 30 s"


class Feed:
    """What the app shows: candidates asked for a hundred at a time, ten cards a page.

    Args:
        shopper: who looks.
        known: what is known of the shopper.
        rankers: the networks.
        policy: which of them, and by what.
    """

    def __init__(
        self,
        shopper: Shopper,
        known: Known,
        rankers: Rankers,
        policy: Policy,
    ) -> None:
        self._shopper, self._known, self._rankers, self._policy = shopper, known, rankers, policy
        self._rng = np.random.default_rng([shopper.seed, 4])
        self._seen: set[int] = set()
        self.waiting: list[int] = []

    def choose(self, session: Session) -> list[int]:
        """The cards of the next page."""
        asked = session.page % REQUEST_PAGES == 0
        if asked:
            self.waiting = self._shopper.recall(self._rng, REQUEST_CARDS, self._seen)
            self._seen.update(self.waiting)
        if asked or self._policy.again:
            self.waiting = self._sorted(session)
        shown, self.waiting = self.waiting[:PAGE_CARDS], self.waiting[PAGE_CARDS:]
        return shown

    def _sorted(self, session: Session) -> list[int]:
        items, policy = np.array(self.waiting), self._policy
        if not policy.network:
            return self.waiting
        if policy.network == "truth":
            scores = session.chances()[items]
        else:
            rows = candidate_rows(session.shopper.catalogue, items)
            past = self._known.at(session.now_ms, 1000 * policy.delay_s)
            if policy.network == "din":
                scores = self._rankers.din(past, rows)
            else:
                before = self._known.at(session.now_ms, DAY_MS)
                scores = self._rankers.din(before, rows) + self._rankers.gru(past, rows)
        return [int(item) for item in items[np.argsort(-scores, kind="stable")]]


@dataclass(frozen=True)
class Clicks:
    """Per page, of one shopper's last session: clicks to be expected by the truth, those made, and bought."""

    expected: float
    made: float
    bought: float


def online(
    rankers: Rankers, catalogue: Catalogue, reader: Reader, seeds: Sequence[int]
) -> dict[str, list[Clicks]]:
    """Clicks by policy, shopper by shopper; all see the same shopper with the same luck and the same past."""
    found: dict[str, list[Clicks]] = {name: [] for name in POLICIES}
    for seed in seeds:
        log = live(catalogue, seed, reader, until=SESSIONS - 1)
        for name, policy in POLICIES.items():
            known, shopper = Known(log, reader), Shopper(catalogue, seed)
            session = shopper.session(SESSIONS - 1, START_MS + (SESSIONS - 1) * DAY_MS)
            feed = Feed(shopper, known, rankers, policy)
            counts = np.zeros(3)
            for page in browse(session, feed.choose):
                bought = sum(later for _, later in page.visits)
                counts += (page.chances.sum(), len(page.clicked), bought)
                known.add([events for events, _ in page.visits])
            found[name].append(Clicks(*(counts / SESSION_PAGES).tolist()))
    return found


def gains(found: Mapping[str, Sequence[Clicks]], base: str) -> dict[str, tuple[float, float, float, float]]:
    """By policy: clicks to be expected a page, and how many more than by ``base``; each with its interval."""
    expected = {name: np.array([clicks.expected for clicks in some]) for name, some in found.items()}
    return {
        name: (*interval(values), *interval(values - expected[base])) for name, values in expected.items()
    }


OFFLINE_HEAD = ("visits are known", "DIN: AUC", "GAUC", "GRU: AUC", "GAUC")


def rows_offline(found: Mapping[str, Mapping[str, Quality]]) -> list[list[str]]:
    """Quality by delay."""
    rows = [
        [delay if delay == "fresh" else f"{delay} late", *_cells(found["DIN"][delay], found["GRU"][delay])]
        for delay in DELAYS_S
    ]
    both, truth = _cells(found["both"][""]), _cells(found["truth"][""])
    return [*rows, ["DIN 1 day late, GRU fresh", *both, "", ""], ["the truth itself", *truth, *truth]]


def _cells(*qualities: Quality) -> list[str]:
    return [f"{value:.3f}" for quality in qualities for value in (quality.auc, quality.gauc)]


def draw_offline(found: Mapping[str, Mapping[str, Quality]]) -> Table:
    """Quality by delay."""
    return _drawn("Cards shown at random", OFFLINE_HEAD, rows_offline(found))


def _drawn(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=f"{title} · SYNTHETIC shoppers", title_justify="left")
    for place, name in enumerate(head):
        table.add_column(name, justify="right" if place else "left")
    for row in rows:
        table.add_row(*row)
    return table


def rows_online(found: Mapping[str, Sequence[Clicks]]) -> list[list[str]]:
    """By policy, with 95 % intervals: clicks a page, how many more than by ``BASE``, and bought a page."""
    compared = gains(found, BASE)
    rows = []
    for name, (mean, half, more, more_half) in compared.items():
        relative = more / compared[BASE][0]
        bought, bought_half = interval(np.array([clicks.bought for clicks in found[name]]))
        rows.append(
            [
                name,
                f"{mean:.3f} ± {half:.3f}",
                f"{more:+.3f} ± {more_half:.3f} ({relative:+.1%})",
                f"{bought:.3f} ± {bought_half:.3f}",
            ]
        )
    return rows


ONLINE_HEAD = ("ranked by", "clicks a page", f"more than {BASE}", "bought a page")


def draw_online(found: Mapping[str, Sequence[Clicks]]) -> Table:
    """Clicks a page by policy."""
    return _drawn("A page of ten cards", ONLINE_HEAD, rows_online(found))


def held_out(catalogue: Catalogue, reader: Reader, count: int) -> list[Log]:
    """Shoppers that the networks were never trained on."""
    return [live(catalogue, HELD_FROM + number, reader) for number in range(count)]


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shoppers", type=int, default=200, help="how many are ranked for")
    parser.add_argument(
        "--models", type=Path, default=HERE, help="the example's folder, or another of train.py"
    )
    args = parser.parse_args(argv)
    catalogue, rankers, console = Catalogue(), Rankers(args.models), Console()
    with open_reader() as reader:
        console.print(draw_offline(offline(rankers, catalogue, held_out(catalogue, reader, args.shoppers))))
        seeds = range(HELD_FROM, HELD_FROM + args.shoppers)
        console.print(draw_online(online(rankers, catalogue, reader, seeds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
