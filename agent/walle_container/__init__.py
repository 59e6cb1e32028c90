"""The compute container: runs task scripts in reused own-GIL interpreters of worker processes.

    async with TaskHost(HostConfig(slots=2)) as host:
        result = await host.run(spec, inputs, {"store.rows": read_rows})

What it contains and what it does not: the ``interp`` tier holds mistakes of signed first-party scripts
(runaway loops, memory growth, stray imports, crashes), with the kernel's fences behind it. Interpreters of
one process are no wall against hostile code; the ``process`` tier is for all other scripts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from walle_container.host import HostConfig, HostStatistics, TaskHost
    from walle_container.spec import (
        ErrorKind,
        HostFunction,
        LaterAsk,
        LogEntry,
        ProfileNode,
        StoreWrite,
        TaskLimits,
        TaskResult,
        TaskSpec,
        TunnelSend,
        cloud_spec,
    )

__all__ = [
    "ErrorKind",
    "HostConfig",
    "HostFunction",
    "HostStatistics",
    "LaterAsk",
    "LogEntry",
    "ProfileNode",
    "StoreWrite",
    "TaskHost",
    "TaskLimits",
    "TaskResult",
    "TaskSpec",
    "TunnelSend",
    "cloud_spec",
]

_IN_HOST = frozenset({"HostConfig", "HostStatistics", "TaskHost"})


def __getattr__(name: str) -> Any:
    """Load on first use: a worker imports this package too, and must stay free of Trio and orjson."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module("walle_container.host" if name in _IN_HOST else "walle_container.spec")
    return getattr(module, name)
