"""Many devices in one process that learn together: the device's own code, the server's own code, no network.

Digits of scikit-learn, dealt out by class: each device has most of its scans of a few digits. A fifth is
never trained on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from walle_control.features.learning import models
from walle_control.features.learning.averaging import ServerState, advance, combine
from walle_control.features.learning.types import PlanWish
from walle_control.features.learning.updates import Vector, check, decode, to_bytes
from walle_engine import train
from walle_shared.learning import LearningSection, RoundTerms, vector_size
from walle_shared.records import to_plain
from walle_support.learning import write_digits_model
from walle_task import _updates, learn
from walle_task.testing import fake_host

HELD_OUT = 360


@dataclass(frozen=True)
class Digits:
    """Scans of 0 to 1 and their labels: one share per device, all of them, and those held out."""

    shares: list[list[dict[str, Any]]]
    held: dict[str, Any]

    @property
    def pooled(self) -> list[dict[str, Any]]:
        """What central training has."""
        return [sample for share in self.shares for sample in share]


def deal(devices: int, *, skew: float = 0.3, seed: int = 0) -> Digits:
    """Deal the digits out: each device's mix of classes is drawn from a Dirichlet distribution.

    Source: Hsu, Qi, Brown, Measuring the Effects of Non-Identical Data Distribution, 2019; the smaller
    ``skew``, the fewer classes a device has.
    """
    rng = np.random.default_rng(seed)
    digits = load_digits()
    order = rng.permutation(len(digits.target))
    pixels, labels = digits.data[order] / 16, digits.target[order]
    held = {"image": pixels[:HELD_OUT].astype("f4"), "target": labels[:HELD_OUT]}
    pixels, labels = pixels[HELD_OUT:], labels[HELD_OUT:]
    owner = np.empty(len(labels), int)
    mixes = rng.dirichlet([skew] * 10, devices)
    for digit in range(10):
        odds = mixes[:, digit] + 1e-9
        rows = np.flatnonzero(labels == digit)
        owner[rows] = rng.choice(devices, len(rows), p=odds / odds.sum())
    samples = [{"pixels": p.astype("f4"), "label": int(y)} for p, y in zip(pixels, labels, strict=True)]
    shares = [[samples[i] for i in np.flatnonzero(owner == device)] for device in range(devices)]
    return Digits([share for share in shares if share], held)


def batch(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a step is fed."""
    return {
        "image": np.stack([row["pixels"] for row in rows]),
        "target": np.array([row["label"] for row in rows], np.int64),
    }


class Federation:
    """Devices, and a server that sums.

    Args:
        data: what the devices have.
        wish: the plan.
        dropouts: the part of the devices that is away in each round.
        poisoned: the part that sends, at the full length allowed, the opposite of what it learnt.
        seed: of who is away, and of all else.
    """

    def __init__(
        self, data: Digits, wish: PlanWish, *, dropouts: float = 0.0, poisoned: float = 0.0, seed: int = 0
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._path = write_digits_model(Path(self._folder.name) / "digits.wmodel")
        self.data, self.wish, self._dropouts = data, wish, dropouts
        self._rng = np.random.default_rng(seed)
        self._liars = set(self._rng.permutation(len(data.shares))[: round(poisoned * len(data.shares))])
        self.parameters, weights = models.read_parameters(self._path, LearningSection(model="digits"))
        self.state = ServerState(weights)
        self._trainer = train.Trainer(
            self._path, train.CrossEntropy(), train.SGD(wish.rate), batch_statistics=False
        )

    def close(self) -> None:
        """Delete the model's file."""
        self._folder.cleanup()

    def accuracy(self, weights: Vector) -> float:
        """On what nobody has trained with."""
        model = models.write_model(self._path, self.parameters, weights)
        found = models.score(model, self.data.held, "cross_entropy").accuracy
        assert found is not None
        return found

    def round(self) -> float:
        """One round; the accuracy of its model."""
        sent, samples = list[Vector](), list[int]()
        for device, share in enumerate(self.data.shares):
            if self._rng.random() < self._dropouts:
                continue
            sent.append(self._read(self._body(device, share)))
            samples.append(len(share))
        update = combine(sent, samples, self.wish.summing, self._rng)
        self.state = advance(self.wish.optimizer, self.state, update, self.wish.server_rate)
        return self.accuracy(self.state.weights)

    def local(self, device: int, epochs: int) -> float:
        """The accuracy of a device that learns for itself alone."""
        self._learn(self.data.shares[device], epochs)
        return self.accuracy(self._weights())

    def central(self, epochs: int) -> float:
        """The accuracy of training where all data lies in one place."""
        self._learn(self.data.pooled, epochs)
        return self.accuracy(self._weights())

    def _weights(self) -> Vector:
        flat = np.asarray(_updates.flat(list(self._trainer.parameters.values())))
        return flat.astype(np.float32)

    def _learn(self, rows: list[dict[str, Any]], epochs: int) -> Any:
        """Train from the server's weights, as ``learn.contribute`` does."""
        offer = {
            "parameters": [[each.name, list(each.shape)] for each in self.parameters],
            "weights": memoryview(to_bytes(self.state.weights)).cast("f"),
        }
        before = learn._values_of(offer)
        self._trainer.restore(before, 0)
        terms = to_plain(self.wish.terms) | {"epochs": epochs}
        with fake_host(seed=int(self._rng.integers(1 << 30))):
            vector, _ = learn._difference(self._trainer, before, rows, batch, terms, float("inf"))
        return vector

    def _body(self, device: int, share: list[dict[str, Any]]) -> bytes:
        vector, terms = self._learn(share, self.wish.epochs), self.wish.terms
        if device in self._liars:
            vector = vector * (-terms.clip_norm / max(_updates.norm_of(vector), 1e-9))
        return _updates.encode(vector, to_plain(terms), int(self._rng.integers(1 << 60)))

    def _read(self, body: bytes) -> Vector:
        terms: RoundTerms = self.wish.terms
        return check(decode(body, terms.encoding, vector_size(self.parameters)), terms)
