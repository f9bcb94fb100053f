"""System calls that the kernel refuses to this process, and to what it starts, from now on (Linux, seccomp filters).

Any process may ask this of itself, also where it may make no namespace, as in most containers.
"""

import ctypes
import errno
import platform
from collections.abc import Collection, Mapping

MACHINE = platform.machine()
NUMBERS: Mapping[str, Mapping[str, int]] = {
    "x86_64": {
        "socket": 41,
        "socketpair": 53,
        "execve": 59,
        "kill": 62,
        "ptrace": 101,
        "process_vm_readv": 310,
        "process_vm_writev": 311,
        "execveat": 322,
        "io_uring_setup": 425,
        "pidfd_open": 434,
    },
    "aarch64": {
        "ptrace": 117,
        "kill": 129,
        "socket": 198,
        "socketpair": 199,
        "execve": 221,
        "process_vm_readv": 270,
        "process_vm_writev": 271,
        "execveat": 281,
        "io_uring_setup": 425,
        "pidfd_open": 434,
    },
}
"""The calls that reach the network, programs and other processes, as each machine numbers them."""

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_FOREIGN = 0x40000000  # numbers from here on are those of x32, another table of the same calls
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NO_NEW_PRIVILEGES, _SET_FILTER, _FILTER = 38, 22, 2


class _Step(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("value", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("steps", ctypes.POINTER(_Step))]


def forbid(numbers: Collection[int], error: int = errno.EPERM) -> bool:
    """Let these system calls, and those of foreign tables, fail with `error`; whether the kernel agreed.

    Threads that run already are not bound. On machines other than those of `NUMBERS` the answer is no.
    """
    if MACHINE not in _ARCHITECTURES:
        return False
    steps = _steps(numbers, _ARCHITECTURES[MACHINE], error)
    program = _Program(len(steps), (_Step * len(steps))(*steps))
    libc = ctypes.CDLL(None, use_errno=True)
    promised: int = libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    installed: int = libc.prctl(_SET_FILTER, _FILTER, ctypes.byref(program), 0, 0)
    return promised == installed == 0


def _steps(numbers: Collection[int], architecture: int, error: int) -> list[_Step]:
    """Another architecture, another table or one of the numbers: the error; everything else is let through."""
    last = len(numbers) + 5
    return [
        _Step(_LOAD, 0, 0, _ARCHITECTURE_AT),
        _Step(_EQUAL, 0, last - 2, architecture),
        _Step(_LOAD, 0, 0, _NUMBER_AT),
        _Step(_AT_LEAST, last - 4, 0, _FOREIGN),
        *(_Step(_EQUAL, last - 5 - n, 0, number) for n, number in enumerate(numbers)),
        _Step(_RETURN, 0, 0, _ALLOW),
        _Step(_RETURN, 0, 0, _ERROR | error),
    ]
