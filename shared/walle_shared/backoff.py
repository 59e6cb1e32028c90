"""How long to wait before trying again: jitter under a rising ceiling, and what the peer asked for."""

from __future__ import annotations

import random


class Backoff:
    """Waits of one retried activity.

    Jitter over half the interval spreads a fleet that failed at the same moment; a ceiling that doubles keeps
    a long outage cheap.

    Args:
        base_s: ceiling of the first wait.
        cap_s: the highest ceiling.
        rng: source of jitter; injected so that tests repeat.
    """

    def __init__(
        self, base_s: float = 0.5, cap_s: float = 300.0, *, rng: random.Random | None = None
    ) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._rng = rng or random.Random()
        self._failures = 0

    @property
    def failures(self) -> int:
        """Failures since the last success."""
        return self._failures

    def next_delay_s(self, retry_after_s: float | None = None) -> float:
        """Count a failure and return the seconds to wait.

        Args:
            retry_after_s: what the peer asked for; the wait is at least this (up to the cap), plus jitter.
        """
        ceiling_s = min(self._cap_s, self._base_s * 2.0 ** min(self._failures, 60))
        self._failures += 1
        # Half the ceiling is certain: a wait of nearly nothing after the tenth failure helps nobody.
        wait_s = ceiling_s * (0.5 + 0.5 * self._rng.random())
        if retry_after_s is None:
            return wait_s
        return min(max(retry_after_s, 0.0), self._cap_s) + wait_s * 0.5

    def reset(self) -> None:
        """Forget past failures, after a success."""
        self._failures = 0
