"""Interrupt, memory quota, audit policy and CPU clock of task runs; loads in isolated interpreters."""

from collections.abc import Buffer, Callable, Sequence
from typing import Any, final

class TaskInterrupted(BaseException):
    """Raised inside a task to stop it."""

def install_quota() -> None:
    """Wrap CPython's allocators so that ``guard`` can count memory.

    Once per process, before the first sub-interpreter is created; needs ``PYTHONMALLOC=pymalloc``.
    """

def memory_account() -> object:
    """Lend the quota to the tensor engine: a capsule for ``walle_engine._native.set_memory_account``."""

def install_policy() -> None:
    """Refuse, inside ``guard`` and with ``PermissionError``, every audit event that plain code does not need.

    Once per process; it cannot be undone.
    """

def begin(run: int) -> None:
    """Say that this interpreter, on this thread, now works on ``run`` (positive, rising)."""

def end() -> None:
    """Say that the run is over; interrupts aimed at it come to nothing from now on."""

def guard(memory_bytes: int, call: Callable[[], object]) -> tuple[Any, BaseException | None, int, int, int]:
    """Call ``call()`` where it can be interrupted and may take at most ``memory_bytes`` (0: no limit).

    Returns:
        Its value, or None and what it raised; CPU time (ns); peak memory newly taken (bytes); how often the
        run has been interrupted so far.

    Raises:
        RuntimeError: outside ``begin`` and ``end``.
    """

def interrupt(interpreter_id: int, run: int) -> bool:
    """Inject ``TaskInterrupted`` if that interpreter is inside ``guard`` of that run.

    Repeat until it returns False: one injection may be swallowed.

    Returns:
        Whether the run is still going.

    Blocks:
        While the interpreter runs C code that keeps its GIL, which may be for ever: call it from a helper
        thread.
    """

def take_long_turns(turn_ns: int) -> bool:
    """Ask the scheduler for longer turns of this thread, in exchange for being woken less promptly.

    Whoever takes shorter turns then runs at once when it wakes, as the agent does between two runs, instead
    of waiting for this thread's turn to be over.

    Returns:
        Whether it may have taken effect: Linux heeds it from 6.12 on.
    """

def thread_cpu_ns() -> int:
    """CPU time of the calling thread, in nanoseconds."""

def send_frame(fd: int, payload: bytes, attached: int = -1) -> None:
    """Send one length-prefixed frame, whole, with a copy of the descriptor ``attached`` beside it.

    Raises:
        OSError: the peer is gone.

    Blocks:
        Until the socket has taken it; other threads and interpreters go on.
    """

def receive_frame(fd: int, max_bytes: int) -> tuple[bytes, int] | None:
    """Receive one frame, whole, and the descriptor beside it (-1: none); None when the peer has closed.

    Raises:
        OSError: the frame is larger than ``max_bytes``, or the channel broke.

    Blocks:
        Until a frame has come; other threads and interpreters go on.
    """

def exchange(fd: int, payload: bytes, attached: int, max_bytes: int) -> tuple[bytes, int] | None:
    """Send one frame and receive one; no interrupt can come between or leave half of either in the channel.

    Raises:
        ValueError: ``payload`` is larger than ``max_bytes``; nothing was sent.
        OSError: as ``receive_frame``.

    Blocks:
        Until the answer has come.
    """

@final
class Shared:
    """Memory that another process has shared and sealed; a read-only buffer of bytes."""

    def __buffer__(self, flags: int, /) -> memoryview: ...

def share(buffers: Sequence[Buffer]) -> int:
    """Copy buffers, row-major, to multiples of 64 bytes of a new block of shared memory; seal it.

    Returns:
        Its descriptor, which is the caller's.

    Raises:
        MemoryError: the run may not have that much.
        OSError: the system refuses.
    """

def map_shared(fd: int) -> Shared:
    """Map what :func:`share` has made elsewhere. Takes over the descriptor, whatever happens.

    Raises:
        ValueError: somebody could still change its content or size.
        OSError: the system refuses.
    """
