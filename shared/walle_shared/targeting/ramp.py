"""A share that grows with time: a pure function of the server's signed time, so nobody has to turn it up."""

from __future__ import annotations

from dataclasses import dataclass

from walle_shared.targeting.hashing import POSITIONS, SHARE_ONE


@dataclass(frozen=True, slots=True)
class Ramp:
    """From ``from_share`` at ``start_ms`` in a straight line to the release's share at ``end_ms``."""

    from_share: int
    start_ms: int
    end_ms: int

    def share_at(self, now_ms: int, share: int) -> int:
        """The share at a time, in parts per billion; ``share`` is what it reaches."""
        if now_ms >= self.end_ms:
            return share
        passed_ms = max(0, now_ms - self.start_ms)
        return self.from_share + (share - self.from_share) * passed_ms // (self.end_ms - self.start_ms)

    def enters_ms(self, position: int, share: int) -> int:
        """When the share reaches a position (``hashing.position``) that it does reach."""
        needed = position * SHARE_ONE // POSITIONS + 1 - self.from_share
        if needed <= 0:
            return self.start_ms
        return self.start_ms - (-needed * (self.end_ms - self.start_ms) // (share - self.from_share))
