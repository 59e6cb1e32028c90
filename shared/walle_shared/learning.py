"""Learning together: what a task lets rounds ask of its devices, what a round is, and what a device sends.

A *plan* of the control plane trains a model of a task in rounds. A round is told to everybody by one signed
file (``OpenRounds``), and each device decides for itself whether it takes part:

1. The round is of the very model file that the device has, and asks no more than the task's approved
   ``[learning]`` allows (``LearningSection.objection``): whoever holds the keys of the rounds alone can make
   them gentler, never harsher.
2. The device is of the round's cohort: a hash of its id, salted per round, as rollouts choose.
3. It has not taken part before.

What it sends travels through the tunnel as records named ``UPDATE_RECORD``, which no task can declare: one
update is cut into parts, each an ``UpdatePart``. An update is one flat vector, the parameters one after
another in the round's order. ``test_updates`` holds device and server to the same encodings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from walle_shared.errors import ConfigError
from walle_shared.ids import ScenarioName, Sha256, TaskName, check_name
from walle_shared.limits import LEARNING_BLOCK, LEARNING_PART_BYTES, TABLE_MAX_ROWS
from walle_shared.protocol.messages import FileRef

#: What the file of the open rounds is signed as, and where it lies.
ROUNDS_KIND: Final = "learning"
ROUNDS_FILE: Final = "learning.json"

#: The record of a part of an update. The dot keeps it apart from every ``[uploads.<name>]``.
UPDATE_RECORD: Final = "walle.update"
#: The record of a part of a personal model, sealed by the device to itself, and its name as an own file.
BACKUP_RECORD: Final = "walle.personal"
BACKUP_FILE: Final = "personal.bin"
#: The event by which the agent fires a task that learns, once a round is open for the device.
ROUND_EVENT: Final = "walle.learning_round"
#: The key of the task's store under which the agent remembers the rounds it took part in.
TAKEN_KEY: Final = "walle.rounds"

#: The usual least number of devices whose updates are summed. Fewer must be said by task and plan alike.
MIN_COHORT: Final = 20

Loss = Literal["cross_entropy", "binary_cross_entropy", "mean_squared_error"]
#: ``update``: how far local training moved the weights. ``gradient``: the gradient at the round's weights.
Sends = Literal["update", "gradient"]
Encoding = Literal["f32", "bf16", "int8"]
ENCODINGS: Final[tuple[Encoding, ...]] = get_args(Encoding)
#: Bytes of an encoded number, scales left out.
_WIDTH: Final[Mapping[Encoding, int]] = {"f32": 4, "bf16": 2, "int8": 1}


@dataclass(frozen=True, slots=True)
class RoundTerms:
    """What a round asks of each device.

    Attributes:
        sends: what is formed of the samples.
        epochs, batch, rate: of local training by plain gradient descent.
        clip_norm: the longest that an update may be; shortened on the device.
        local_noise: deviation of the noise that the device adds, as a multiple of ``clip_norm``.
        noise: deviation of the noise that the server adds to the sum, likewise.
        min_cohort: fewer updates than this are thrown away unseen.
        encoding: how numbers travel.
    """

    sends: Sends = "update"
    epochs: int = 1
    batch: int = 16
    rate: float = 0.05
    clip_norm: float = 1.0
    local_noise: float = 0.0
    noise: float = 0.0
    min_cohort: int = MIN_COHORT
    encoding: Encoding = "int8"


@dataclass(frozen=True, slots=True)
class LearningSection:
    """The ``[learning]`` table of ``task.toml``: what rounds may ask. Without a ``model`` nothing is learnt.

    Attributes:
        model: ``model/<model>.wmodel`` is what is trained.
        table: the table of ``[tables]`` whose rows are the samples; ``[retention]`` caps it.
        samples: the newest of them that take part, at most.
        min_samples: a device that has fewer stays out.
        loss: what is to become small.
        trainable: names of weights, or patterns; empty: all that are usually learnt.
        sends: what rounds may ask for.
        upload_samples: samples themselves go to ``[uploads.<table>]`` as well, if the device consents.
        epochs, rate, clip_norm: the most that a round may ask for.
        min_cohort, noise, local_noise: the least.
        rounds_per_day: in how many rounds a device takes part within a day.
        charging, unmetered, idle: what the device must be, as far as it knows.
        backup: ``learn.back_up`` may leave this device's own model with the control plane, sealed to itself.
    """

    model: str = ""
    table: str = ""
    samples: int = 500
    min_samples: int = 1
    loss: Loss = "cross_entropy"
    trainable: tuple[str, ...] = ()
    sends: tuple[Sends, ...] = ("update",)
    upload_samples: bool = False
    epochs: int = 5
    rate: float = 0.5
    clip_norm: float = 1.0
    min_cohort: int = MIN_COHORT
    noise: float = 0.0
    local_noise: float = 0.0
    rounds_per_day: int = 4
    charging: bool = True
    unmetered: bool = True
    idle: bool = True
    backup: bool = False

    def objection(self, terms: RoundTerms) -> str:
        """Why a device of this task stays out of a round of these terms; empty: it does not."""
        for wrong, words in (
            (not self.model, "the task has no [learning]"),
            (terms.sends not in self.sends, f"learning.sends does not allow {terms.sends}"),
            (terms.epochs > self.epochs, f"{terms.epochs} epochs are over learning.epochs, {self.epochs}"),
            (terms.rate > self.rate, f"a rate of {terms.rate:g} is over learning.rate, {self.rate:g}"),
            (
                terms.clip_norm > self.clip_norm,
                f"a norm of {terms.clip_norm:g} is over learning.clip_norm, {self.clip_norm:g}",
            ),
            (
                terms.min_cohort < self.min_cohort,
                f"a cohort of {terms.min_cohort} is under learning.min_cohort, {self.min_cohort}",
            ),
            (terms.noise < self.noise, f"noise {terms.noise:g} is under learning.noise, {self.noise:g}"),
            (
                terms.local_noise < self.local_noise,
                f"noise {terms.local_noise:g} is under learning.local_noise, {self.local_noise:g}",
            ),
        ):
            if wrong:
                return words
        return ""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One of the weights that are learnt, by its name in the model file."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OpenRound:
    """A round that devices may take part in until ``deadline_ms``.

    ``base`` is the digest of the model file that is trained; ``weights`` names the blob with the values that
    its ``parameters`` have in this round, float32, one after another. The cohort are the devices that
    ``salt`` places within the first ``share`` parts per billion.
    """

    plan: str
    scenario: ScenarioName
    task: TaskName
    number: int
    base: Sha256
    weights: FileRef
    parameters: tuple[Parameter, ...]
    salt: str
    share: int
    deadline_ms: int
    terms: RoundTerms
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OpenRounds:
    """All rounds that are open, signed by the role that signs epochs."""

    issued_ms: int
    expires_ms: int
    rounds: tuple[OpenRound, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UpdatePart:
    """A part of an update; ``id`` is random and the same in all of them, ``body`` is base64."""

    plan: str
    round: int
    id: str
    part: int
    parts: int
    samples: int
    encoding: Encoding
    body: str


@dataclass(frozen=True, slots=True)
class BackupPart:
    """A part of a sealed personal model: ``wrapped`` is its key, for the purpose that ``counter`` names.

    ``size_bytes`` is of the whole sealed file, ``plain`` what it opens to.
    """

    id: str
    part: int
    parts: int
    size_bytes: int
    plain: FileRef
    wrapped: str
    sealed_to: str
    counter: int
    body: str


def check_terms(terms: RoundTerms, where: str) -> RoundTerms:
    """Refuse terms that make no sense.

    Raises:
        ConfigError: naming the field.
    """
    for name, low, high in (
        ("epochs", 1, 100),
        ("batch", 1, 4_096),
        ("min_cohort", 2, 10_000_000),
    ):
        if not low <= getattr(terms, name) <= high:
            raise ConfigError(f"{where}.{name} must be {low} to {high}, not {getattr(terms, name)}")
    for name in ("rate", "clip_norm"):
        _check_number(getattr(terms, name), f"{where}.{name}", positive=True)
    for name in ("noise", "local_noise"):
        _check_number(getattr(terms, name), f"{where}.{name}", positive=False)
    return terms


def check_section(
    section: LearningSection,
    tables: Mapping[str, Any],
    uploads: Mapping[str, Any],
    own: tuple[str, ...] = (),
) -> None:
    """Refuse a ``[learning]`` that makes no sense; ``own`` are the files of ``[own]``.

    Raises:
        ConfigError: naming the key.
    """
    if not section.model:
        if section != LearningSection():
            raise ConfigError("learning.model is empty: name what is trained, model/<model>.wmodel")
        return
    check_name(section.model, "learning.model")
    if section.table not in tables:
        raise ConfigError(f"learning.table: declare [tables.{section.table[:80]}]")
    if section.upload_samples and section.table not in uploads:
        raise ConfigError(f"learning.upload_samples: declare [uploads.{section.table}]")
    if section.backup and BACKUP_FILE not in own:
        raise ConfigError(f'learning.backup: add "{BACKUP_FILE}" to files in [own], where it comes back to')
    if not section.sends:
        raise ConfigError('learning.sends must name "update", "gradient", or both')
    if not 1 <= section.min_samples <= section.samples <= TABLE_MAX_ROWS:
        raise ConfigError(
            f"learning.samples must be 1 to {TABLE_MAX_ROWS}, and learning.min_samples at most as many"
        )
    if not 1 <= section.rounds_per_day <= 1_000:
        raise ConfigError("learning.rounds_per_day must be 1 to 1000")
    check_terms(
        RoundTerms(
            epochs=section.epochs,
            rate=section.rate,
            clip_norm=section.clip_norm,
            local_noise=section.local_noise,
            noise=section.noise,
            min_cohort=section.min_cohort,
        ),
        "learning",
    )


def model_path(section: LearningSection) -> str:
    """Where a bundle has the model that is learnt."""
    return f"model/{section.model}.wmodel"


def policy_of(section: LearningSection, *, consents: bool) -> dict[str, Any]:
    """What a script is told of its task's ``[learning]``; ``consents``: the device's owner does."""
    return {
        "model": section.model,
        "table": section.table,
        "samples": section.samples,
        "min_samples": section.min_samples,
        "loss": section.loss,
        "trainable": list(section.trainable),
        "batch": RoundTerms().batch,
        "upload_samples": section.upload_samples and consents,
        "backup": f"own/{BACKUP_FILE}" if section.backup and consents else "",
        "backup_record": BACKUP_RECORD,
    }


def vector_size(parameters: tuple[Parameter, ...]) -> int:
    """How many numbers the parameters have in all."""
    return sum(math.prod(each.shape) for each in parameters)


def encoded_bytes(size: int, encoding: Encoding) -> int:
    """How many bytes a vector of ``size`` numbers takes; int8 has a float32 scale per block first."""
    scales = 4 * math.ceil(size / LEARNING_BLOCK) if encoding == "int8" else 0
    return scales + size * _WIDTH[encoding]


def parts_of(size_bytes: int) -> int:
    """Into how many parts so many bytes are cut."""
    return max(1, math.ceil(size_bytes / LEARNING_PART_BYTES))


def norm_bound(terms: RoundTerms, size: int) -> float:
    """The longest an honest update can be when it arrives.

    Clipped to ``clip_norm`` whatever the rounding does; with local noise of deviation ``s`` its length is
    that of a normal vector besides, at most ``s (sqrt(n) + 6)`` but for one device in a billion.

    Source: Laurent and Massart, Ann. Statist. 28 (2000), lemma 1: P(|x| >= sqrt(n) + t) <= exp(-t^2 / 2).
    """
    noise = terms.local_noise * terms.clip_norm * (math.sqrt(size) + 6.5)
    rounding = 1.13 if noise else 1.0  # noise is not scaled back: int8 moves a block by at most 16/127
    return terms.clip_norm * 1.001 + noise * rounding


def _check_number(value: float, where: str, *, positive: bool) -> None:
    if not math.isfinite(value) or value < 0 or (positive and value == 0) or value > 1e6:
        raise ConfigError(
            f"{where} must be {'over 0' if positive else 'at least 0'} and finite, not {value:g}"
        )
