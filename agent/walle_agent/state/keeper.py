"""One device state, changed by several services: each change reads, decides and writes under one lock."""

from __future__ import annotations

from collections.abc import Callable

import trio

from walle_agent.state.store import DeviceState, StateStore


class StateKeeper:
    """Serialises changes to the state file and keeps them off the event loop."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._lock = trio.Lock()

    @property
    def state(self) -> DeviceState:
        """The state as last made durable."""
        return self._store.state

    async def update(self, change: Callable[[DeviceState], DeviceState]) -> DeviceState:
        """Replace the state by ``change`` of it; durable on return.

        Raises:
            StorageError: the disk refused; the old state stands.
        """
        async with self._lock:
            state = change(self._store.state)
            if state == self._store.state:
                return state  # most runs change nothing: no thread, no disk
            # A cancelled caller must not leave the thread writing while the next change begins.
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._store.save, state)
            return state
