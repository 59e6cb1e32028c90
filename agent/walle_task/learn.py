"""Learning together: samples that stay on the device, and what they teach, sent in rounds.

A task with ``[learning]`` in its task.toml keeps samples as its events come, and takes part in a round when
the agent says that one is open for this device, by the event ``walle.learning_round``::

    from walle_task import events, learn

    def batch(samples):
        return {"image": [s["pixels"] for s in samples], "target": [s["label"] for s in samples]}

    def run():
        for event in events.all():
            if event.event_id == "digit_corrected":
                learn.keep({"pixels": event.args["pixels"], "label": event.args["label"]})
        learn.contribute(batch)

Of the samples nothing leaves the device but an update of the model, clipped to the round's norm, rounded, and
with noise if the round asks for it (``docs/guide/learn-together.md``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from walle_shared.errors import LimitExceeded, ModelError, TaskError
from walle_task import clock, log, random, store, tunnel
from walle_task.context import RunContext, current

if TYPE_CHECKING:
    from walle_task.model import Model, Trained

__all__ = ["Contribution", "Sample", "back_up", "contribute", "keep", "personal", "personalise", "samples"]

type Sample = dict[str, Any]
#: Makes what a step is fed of some samples: the model's inputs by name, and ``target``.
type MakeBatch = Callable[[list[Sample]], Mapping[str, object]]

#: Where :func:`personalise` keeps what it learnt.
PERSONAL_KEY = "walle.personal"
#: JSON around a part of an update.
_PART_OVERHEAD_BYTES = 512


@dataclass(frozen=True, slots=True)
class Contribution:
    """What this device gave to a round.

    Attributes:
        plan, round: which.
        samples: how many it learnt from.
        losses: before each step.
        norm: of the update before it was clipped.
        clipped: whether it was longer than the round allows.
        size_bytes: what is sent.
    """

    plan: str
    round: int
    samples: int
    losses: tuple[float, ...]
    norm: float
    clipped: bool
    size_bytes: int


def keep(sample: Sample) -> None:
    """Keep a sample: a row of the table that ``[learning]`` names, whose ``[retention]`` says for how long.

    Where the task's ``upload_samples`` is set and the device consents, it is sent as well.

    Raises:
        NotAllowed: ``learn`` or ``store`` is not granted.
        TaskError: the task has no ``[learning]``, or a value is not JSON.
    """
    policy = current().ask("learn.policy", {})
    store.table(policy["table"]).put(sample)
    if policy["upload_samples"]:
        tunnel.send(policy["table"], sample)


def samples(limit: int | None = None) -> list[Sample]:
    """The newest samples, oldest first: those of this run too."""
    policy = current().ask("learn.policy", {})
    return store.table(policy["table"]).rows(limit=limit or policy["samples"])


def contribute(batch: MakeBatch, *, seconds: float = math.inf) -> Contribution | None:
    """Take part in the round that is open for this device, if there is one.

    The model of the round is trained on this device's samples; the difference is clipped, noised, rounded
    and sent once the run has ended well. Batch normalisation stays as it is in the model.

    Args:
        batch: makes a batch of samples.
        seconds: after which no step begins; the round's epochs end it otherwise.

    Returns:
        What was given; None where there is no round, too few samples, or no finite update.

    Raises:
        NotAllowed: ``learn``, ``model``, ``store`` or ``tunnel`` is not granted.
        ModelError: the round is of another model than the bundle's.
        EngineError: a batch lacks an input, or has one of a wrong shape.
        LimitExceeded: the update would be more than the run may produce; nothing was trained.
    """
    context = current()
    for name in ("learn.round", "model.train", "store.rows", "tunnel.send"):
        context.check_granted(name)
    offer = context.ask("learn.round", {})
    if offer is None:
        return None
    policy, terms = offer["policy"], offer["terms"]
    rows = store.table(policy["table"]).rows(limit=policy["samples"])
    if len(rows) < policy["min_samples"]:
        log.info("too few samples for a round", samples=len(rows), needed=policy["min_samples"])
        return None
    _check_fits(context, offer["size_bytes"])
    trainer = _trainer_of(context, offer)
    before = trainer.checkpoint()
    until = clock.monotonic() + seconds
    learnt = _gradient if terms["sends"] == "gradient" else _difference
    vector, losses = learnt(trainer, before, rows, batch, terms, until)
    return _send(context, offer, vector, losses, len(rows))


def personalise(
    batch: MakeBatch, *, steps: int, seconds: float, rate: float = 0.05, limit: int | None = None
) -> Trained | None:
    """Train this device's own model on its samples; nothing of it leaves the device.

    It goes on from where it was. When the bundle brings another model file, what was learnt of the old one is
    dropped and the new one is begun with: weights of different files are not mixed.

    Args:
        batch: makes a batch of samples.
        steps: the most steps of this run.
        seconds: after which no step begins.
        rate: of plain gradient descent.
        limit: how many of the newest samples; by default what ``[learning]`` says.

    Returns:
        What training came to; None where there are too few samples.

    Raises:
        NotAllowed: ``learn``, ``model`` or ``store`` is not granted.
        EngineError, LimitExceeded: as :func:`walle_task.model.train`.
    """
    from walle_task import model  # here, as in _trainer_of: most runs only keep samples

    policy = current().ask("learn.policy", {})
    rows = samples(limit)
    if len(rows) < policy["min_samples"]:
        return None
    _bring_back(policy)

    def batches() -> Iterator[Mapping[str, object]]:
        while True:
            for part in _shuffled(rows, policy["batch"]):
                yield batch(part)

    return model.train(
        policy["model"],
        batches(),
        steps=steps,
        seconds=seconds,
        loss=policy["loss"],
        optimizer="sgd",
        rate=rate,
        trainable=policy["trainable"] or None,
        checkpoint=PERSONAL_KEY,
    )


def personal() -> Model:
    """This device's own model, as :func:`personalise` left it; the shared one where there is none.

    Where the store has none but a backup came back to the device, it is that of the backup.

    Raises:
        NotAllowed: ``learn``, ``model`` or ``store`` is not granted.
        NotFound: the bundle has no such model.
    """
    from walle_task import model

    policy = current().ask("learn.policy", {})
    _bring_back(policy)
    return model.load(policy["model"], checkpoint=PERSONAL_KEY)


def back_up() -> bool:
    """Leave this device's own model with the control plane, for when its store is lost.

    The agent seals it to the device's own key, so that nobody else can open it, and it comes back as a file
    of the device's own (``[own]``). One that was left before is replaced.

    Returns:
        Whether there is one, and ``backup`` in ``[learning]`` and the device's owner allow it.

    Raises:
        NotAllowed: ``learn``, ``store`` or ``tunnel`` is not granted.
        LimitExceeded: it is more than the run may produce.
    """
    from walle_task import _training, _updates, model

    context = current()
    policy = context.ask("learn.policy", {})
    kept = _training.Checkpoint(PERSONAL_KEY, model._model_path(context, policy["model"]))
    found = kept.read() if policy["backup"] else None
    if found is None:
        return False
    body = kept.pack(*found)
    _check_fits(context, len(body))
    pieces, name = _updates.cut(body), f"{random.generator().getrandbits(128):032x}"
    for number, piece in enumerate(pieces):
        fields = {"id": name, "part": number, "parts": len(pieces), "body": piece}
        context.add_upload(policy["backup_record"], fields)
    return True


def _bring_back(policy: Mapping[str, Any]) -> None:
    """Take over a backup of the model file that is here, where the store has nothing of it."""
    from walle_task import _training, model

    context = current()
    path = context.bundle_dir / policy["backup"] if policy["backup"] else None
    if path is None or not path.is_file():
        return
    kept = _training.Checkpoint(PERSONAL_KEY, model._model_path(context, policy["model"]))
    found = kept.unpack(path.read_bytes()) if kept.read() is None else None
    if found is not None:
        kept.write(*found)
        log.info("the model of this device came back", steps=found[1])


def _trainer_of(context: RunContext, offer: Mapping[str, Any]) -> Any:
    """A trainer whose parameters are the round's."""
    from walle_task import _training, model

    policy, terms = offer["policy"], offer["terms"]
    path: Path = model._model_path(context, policy["model"])
    trainer = _training.make_trainer(
        path,
        cast("Callable[[bytes], Any]", model._engine().Model.from_bytes),
        loss=policy["loss"],
        optimizer="sgd",
        rate=terms["rate"],
        trainable=policy["trainable"] or None,
        seed=random.randint(0, 2**31),
        batch_statistics=False,
    )
    found = [[name, list(memoryview(value).shape or ())] for name, value in trainer.parameters.items()]
    if found != offer["parameters"]:
        raise ModelError("the round is of other weights than model/" + path.name + " would be trained in")
    trainer.restore(_values_of(offer), 0)
    return trainer


def _values_of(offer: Mapping[str, Any]) -> dict[str, bytes]:
    data = memoryview(offer["weights"]).cast("B")
    values, at = dict[str, bytes](), 0
    for name, shape in offer["parameters"]:
        size_bytes = 4 * math.prod(shape)
        values[name] = bytes(data[at : at + size_bytes])
        at += size_bytes
    return values


def _shuffled(rows: Sequence[Sample], size: int) -> Iterator[list[Sample]]:
    order = list(rows)
    random.shuffle(order)
    for at in range(0, len(order), size):
        yield order[at : at + size]


type _Learnt = tuple[Any, list[float]]


def _difference(
    trainer: Any, before: Mapping[str, bytes], rows: list[Sample], batch: MakeBatch, terms: Any, until: float
) -> _Learnt:
    """How far some epochs of training move the weights."""
    losses = list[float]()
    for _ in range(terms["epochs"]):
        for part in _shuffled(rows, terms["batch"]):
            if clock.monotonic() >= until:
                break
            losses.append(trainer.step(batch(part)))
    return _moved(trainer, before), losses


def _gradient(
    trainer: Any, before: Mapping[str, bytes], rows: list[Sample], batch: MakeBatch, terms: Any, until: float
) -> _Learnt:
    """The gradient of the mean loss at the round's weights, downhill."""
    losses, gradients, seen = list[float](), list[Any](), 0
    for part in _shuffled(rows, terms["batch"]):
        if seen and clock.monotonic() >= until:
            break
        losses.append(trainer.step(batch(part)))
        gradients.append(_moved(trainer, before) * (len(part) / terms["rate"]))
        seen += len(part)
        trainer.restore(before, 0)
    return sum(gradients[1:], gradients[0]) * (1 / seen), losses


def _moved(trainer: Any, before: Mapping[str, bytes]) -> Any:
    from walle_task import _updates

    after = _updates.flat(list(trainer.parameters.values()))
    return after - _updates.flat([memoryview(value).cast("f") for value in before.values()])


def _send(
    context: RunContext, offer: Mapping[str, Any], vector: Any, losses: list[float], count: int
) -> Contribution | None:
    from walle_task import _updates

    norm, terms = _updates.norm_of(vector), offer["terms"]
    if not math.isfinite(norm):
        log.warning("the update is not finite: a lower rate, or a look at the samples", losses=losses[-3:])
        return None
    body = _updates.encode(vector, terms, random.generator().getrandbits(128))
    pieces, name = _updates.cut(body), f"{random.generator().getrandbits(128):032x}"
    for number, piece in enumerate(pieces):
        context.add_upload(
            offer["record"],
            {
                "plan": offer["plan"],
                "round": offer["number"],
                "id": name,
                "part": number,
                "parts": len(pieces),
                "samples": count,
                "encoding": terms["encoding"],
                "body": piece,
            },
        )
    return Contribution(
        offer["plan"], offer["number"], count, tuple(losses), norm, norm > terms["clip_norm"], len(body)
    )


def _check_fits(context: RunContext, size_bytes: int) -> None:
    """Refuse to begin what could not be sent."""
    if size_bytes <= 0:
        raise TaskError(f"the round's update has {size_bytes} bytes")
    needed = size_bytes * 4 // 3 + _PART_OVERHEAD_BYTES * (1 + size_bytes // 40_000)
    left = context.output_bytes - context.produced_bytes
    if needed > left:
        raise LimitExceeded(
            f"the update would take {needed} bytes and the run may produce {left} more: learn fewer weights "
            'by trainable = ["..."] in [learning], or raise limits.output_bytes in task.toml'
        )
