"""What the kernel keeps a thread from: files, system calls, the network; loads in isolated interpreters.

A fence binds the calling thread and the threads it starts from then on, and cannot be taken down.
"""

from collections.abc import Sequence

def landlock_abi() -> int:
    """The version of Landlock that this kernel offers; 0 for none."""

def has_seccomp() -> bool:
    """Whether this kernel filters system calls, and this architecture's list is known."""

def restrict_files(readable: Sequence[str]) -> None:
    """Allow reading below ``readable`` and nothing else of the file system; no TCP, no signals to others.

    Paths that do not exist are left out. What is open already stays usable.

    Raises:
        OSError: the kernel refused; nothing was fenced.
    """

def restrict_syscalls() -> None:
    """Refuse, with ``PermissionError``, every system call that a run does not need.

    Raises:
        OSError: the kernel refused; nothing was fenced.
    """

def leave_network() -> bool:
    """Move this process into a network namespace of its own, which has no interface but loopback, down.

    Returns:
        Whether the system allowed it.
    """
