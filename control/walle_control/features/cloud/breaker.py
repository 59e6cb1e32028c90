"""Keeps a cloud half that only fails from being asked again and again. Pure."""

from __future__ import annotations

from typing import Final

#: So many failures in a row, and nothing is asked for a while.
FAILURES: Final = 5
#: The first such while; it doubles each time that the one question after it fails too.
FIRST_S: Final = 5.0
LONGEST_S: Final = 300.0


class Breaker:
    """Of one version of a task.

    After a while one question is let through: if it is answered, all are again.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._pause_s = FIRST_S
        self._until_s = 0.0
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether it failed so often that questions are held back."""
        return self._failures >= FAILURES

    def lets(self, now_s: float) -> bool:
        """Whether a question may pass; one that does must end in ``succeeded``, ``failed`` or ``unknown``."""
        if not self.is_open:
            return True
        if now_s < self._until_s or self._trying:
            return False
        self._trying = True
        return True

    def succeeded(self) -> None:
        """A question was answered."""
        self._failures = 0
        self._pause_s = FIRST_S
        self._trying = False

    def failed(self, now_s: float) -> None:
        """The cloud half failed."""
        was_open = self.is_open
        self._failures += 1
        if not self.is_open:
            return
        if was_open and not self._trying:
            return  # it was let through before the others failed
        if was_open:
            self._pause_s = min(2 * self._pause_s, LONGEST_S)
        self._until_s = now_s + self._pause_s
        self._trying = False

    def unknown(self) -> None:
        """A question came to no end that says anything, as when nobody waited for it any more."""
        self._trying = False
