"""Types of the learning feature."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from walle_control.features.learning.averaging import Optimizer, Rule, Summing
from walle_control.web.requests import page_limit
from walle_shared.ids import DeviceId, ScenarioName, Sha256, TaskName, TaskVersion
from walle_shared.learning import MIN_COHORT, BackupPart, Encoding, Loss, Parameter, RoundTerms, Sends
from walle_shared.units import HOUR_S

#: ``running`` until its rounds are done, or until it is stopped: by an operator, or as too few take part.
PlanState = Literal["running", "done", "stopped"]
#: ``open`` collects; ``closing`` takes no more and is summed; ``closed`` gave a model; ``discarded`` did not.
RoundState = Literal["open", "closing", "closed", "discarded"]


@dataclass(frozen=True, slots=True)
class PlanWish:
    """Begin a learning plan.

    Attributes:
        version: the task version whose model is trained.
        noise: deviation of the noise on each round's sum, as a multiple of ``clip_norm``; there is no
            default, so that nobody goes without by accident. 0: none, and no promise to devices.
        rounds: how many rounds are to end well.
        goal: a round ends when so many updates came.
        min_cohort: with fewer at its deadline, a round is thrown away.
        deadline_s: how long a round waits.
        cohort_percent: the part of the devices that each round chooses; 0: what brings ``goal`` updates if
            two in three of those chosen take part.
        sends, epochs, batch, rate, clip_norm, local_noise, encoding: see ``walle_shared.learning``.
        rule, trim, samples_cap: how updates become one; see ``averaging``.
        optimizer, server_rate: what the server makes of that.
        delta: of the reported epsilon.
        holdout: an ``.npz`` file in base64: the model's inputs by name, and ``target``.
    """

    version: str
    noise: float
    rounds: int = 10
    goal: int = 100
    min_cohort: int = MIN_COHORT
    deadline_s: float = 6 * HOUR_S
    cohort_percent: float = 0.0
    sends: Sends = "update"
    epochs: int = 1
    batch: int = 16
    rate: float = 0.05
    clip_norm: float = 1.0
    local_noise: float = 0.0
    encoding: Encoding = "int8"
    rule: Rule = "mean"
    trim: float = 0.1
    samples_cap: int = 100
    optimizer: Optimizer = "fedavg"
    server_rate: float = 1.0
    delta: float = 1e-6
    holdout: str = ""

    @property
    def terms(self) -> RoundTerms:
        """What each device is asked for."""
        return RoundTerms(
            self.sends, self.epochs, self.batch, self.rate, self.clip_norm, self.local_noise, self.noise,
            self.min_cohort, self.encoding,
        )  # fmt: skip

    @property
    def summing(self) -> Summing:
        """How updates become one."""
        return Summing(self.rule, self.trim, self.samples_cap, self.goal, self.noise * self.clip_norm)


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A plan as it is kept; ``wish`` without its held-out data."""

    id: str
    scenario: ScenarioName
    task: TaskName
    version: TaskVersion
    model: str
    base: Sha256
    loss: Loss
    parameters: tuple[Parameter, ...]
    wish: PlanWish
    state: PlanState
    reason: str
    created_ms: int
    created_by: str
    ended_ms: int


@dataclass(frozen=True, slots=True)
class RoundRow:
    """A round: how many updates came, were refused as wrong, or came late; scores are of its model."""

    plan: str
    number: int
    state: RoundState
    salt: str
    share: int
    opened_ms: int
    deadline_ms: int
    closed_ms: int
    updates: int
    refused: int
    late: int
    loss: float | None
    accuracy: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class RoundView:
    """A round, for those who look: of an open one, how many updates have come so far."""

    number: int
    state: RoundState
    cohort_percent: float
    opened_ms: int
    deadline_ms: int
    closed_ms: int
    updates: int
    refused: int
    late: int
    loss: float | None
    accuracy: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class PlanView:
    """A plan, for those who look.

    ``epsilon`` is what holds for every device with ``wish.delta`` after the rounds so far, whoever knows who
    took part; ``epsilon_if_secret`` what would hold if nobody knew. ``None``: no promise.
    """

    id: str
    scenario: ScenarioName
    task: TaskName
    version: TaskVersion
    model: str
    weights: int
    wish: PlanWish
    state: PlanState
    reason: str
    created_ms: int
    created_by: str
    ended_ms: int
    rounds_closed: int
    rounds_discarded: int
    epsilon: float | None
    epsilon_if_secret: float | None
    newest: RoundView | None


@dataclass(frozen=True, slots=True)
class PlanList:
    """Plans, newest first."""

    plans: tuple[PlanView, ...]


@dataclass(frozen=True, slots=True)
class RoundList:
    """Rounds of a plan, newest first."""

    rounds: tuple[RoundView, ...]


@dataclass(frozen=True, slots=True)
class RoundsAsked:
    """How many rounds, from the newest."""

    limit: int = page_limit()


@dataclass(frozen=True, slots=True)
class CollectedUpdate:
    """All parts of a device's update, joined."""

    samples: int
    encoding: Encoding
    body: bytes


@dataclass(frozen=True, slots=True)
class WholeBackup:
    """A device's personal model, sealed by the device to itself; ``about`` is of its first part."""

    device_id: DeviceId
    scenario: ScenarioName
    task: TaskName
    about: BackupPart
    sealed: bytes


#: Makes it a file of the device's own; refuses one that cannot be, by raising a ``WalleError``.
KeepSealed = Callable[[WholeBackup], Awaitable[None]]
