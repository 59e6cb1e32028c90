"""The kernel's fences round a task: which there are, and what they leave to it.

In the ``interp`` tier they bind a slot's thread, from its first run on: a second fence behind the import
rules and the audit policy, since native code of one thread can reach the memory of the others. In the
``process`` tier they bind the whole worker before it has seen anything of the task, together with resource
limits and an empty network. Standard library only.
"""

from __future__ import annotations

import os
import resource
import sys

from walle_container import _fence
from walle_shared.units import MIB

TYPE_CHECKING = False  # as in locate.py: every slot loads this
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

LANDLOCK = "landlock"
SECCOMP = "seccomp"

#: What the interpreter and its extension modules are loaded from, and what libraries read of the machine.
SYSTEM_FILES = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"),
    *("/usr/share/zoneinfo", "/etc/localtime", "/proc/self/cgroup", "/sys/fs/cgroup"),
    "/sys/devices/system/cpu",
)

#: Address space beside the task's memory: reserves of the C heap, thread stacks, modules loaded later.
SPARE_ADDRESS_BYTES = 768 * MIB
OPEN_FILES_MAX = 64

#: One block of memory that a run hands to the agent.
WRITTEN_FILE_MAX_BYTES = 1024 * MIB


def find_fences() -> tuple[str, ...]:
    """The fences that this kernel offers."""
    found = {LANDLOCK: _fence.landlock_abi() > 0, SECCOMP: _fence.has_seccomp()}
    return tuple(name for name, is_there in found.items() if is_there)


def find_library(locations: dict[str, Any]) -> list[str]:
    """Everything a worker must be able to read, bundles aside.

    Args:
        locations: a parsed :func:`walle_container.locate.find_locations` text.
    """
    folders = [*sys.path, *SYSTEM_FILES]
    for _, searched in locations["packages"].values():
        folders += searched
    folders += [os.path.dirname(str(path)) for path in locations["extensions"].values()]  # noqa: PTH120
    folders += os.environ.get("LD_LIBRARY_PATH", "").split(":")
    return sorted({folder for folder in folders if folder.startswith("/")})


def fence_thread(fences: Sequence[str], readable: Sequence[str]) -> None:
    """Bind the calling thread, and the threads it starts, for good.

    Args:
        fences: those of :func:`find_fences` to put up.
        readable: files and folders that may be read; nothing may be written or run.

    Raises:
        OSError: the kernel refused.
    """
    if LANDLOCK in fences:
        _fence.restrict_files(readable)
    if SECCOMP in fences:  # last: the calls above are not on its list
        _fence.restrict_syscalls()


def fence_process(fences: Sequence[str], readable: Sequence[str], memory_bytes: int) -> None:
    """Bind this process, which must have one thread yet, for good.

    Args:
        fences: those of :func:`find_fences` to put up.
        readable: files and folders that may be read.
        memory_bytes: the quota of a run; 0 for no limit.

    Raises:
        OSError: the kernel refused.
    """
    _fence.leave_network()  # where it is refused, Landlock and seccomp still leave no socket to be made
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: OPEN_FILES_MAX,
        resource.RLIMIT_FSIZE: WRITTEN_FILE_MAX_BYTES,
    }
    if memory_bytes:
        limits[resource.RLIMIT_AS] = address_space_bytes() + memory_bytes + SPARE_ADDRESS_BYTES
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))
    fence_thread(fences, readable)


def address_space_bytes() -> int:
    """The size of this process's address space."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  # pathlib costs every slot memory
        return int(file.read().split()[0]) * resource.getpagesize()
