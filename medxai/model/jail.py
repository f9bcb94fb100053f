"""Confine the current process before it runs code that nobody here wrote: no network, little memory, few files.

Linux only. The process gets a network of its own that reaches nothing (unshare) and can open no socket, start no
program and touch no other process (a filter of system calls); a container that permits no namespace still permits the
filter. Memory, processor time and file size have a ceiling (setrlimit), and where the kernel has Landlock nothing is
written outside one folder. What it may read is not restricted.
"""

import ctypes
import os
import sys
from pathlib import Path

from medxai.model.syscalls import MACHINE, NUMBERS, forbid

_NEWUSER, _NEWNET = 0x10000000, 0x40000000
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_NO_NEW_PRIVILEGES = 38
_EXECUTE, _READING = 1 << 0, (1 << 2) | (1 << 3)
_KNOWN = {1: 13, 2: 14}  # how many kinds of access a version of Landlock knows; 15 from the third on
_BENEATH = 1


class _Rules(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def confine(folder: Path, memory: int, seconds: int) -> tuple[str, ...]:
    """From now on this process is confined; what that means, in words. Raises OSError where the network stays open."""
    if sys.platform != "linux":
        raise OSError("only Linux can confine a process so")
    import resource

    libc = ctypes.CDLL(None, use_errno=True)
    apart = libc.unshare(_NEWUSER | _NEWNET) == 0 or libc.unshare(_NEWNET) == 0
    for kind, limit in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))
    landlocked = _landlocked(libc, folder)
    filtered = forbid([*NUMBERS.get(MACHINE, {}).values()])
    if not (apart or filtered):
        raise OSError("neither a network of its own nor a filter of system calls is permitted here")
    return (
        "no network",
        f"at most {memory / 2**30:.3g} GiB of memory and {seconds} s",
        "no program started" if filtered or landlocked else "programs not prevented: no filter of system calls here",
        "no other process touched" if filtered else "other processes not protected: no filter of system calls here",
        "nothing written outside a temporary folder" if landlocked else "writing not confined: no Landlock here",
    )


def _landlocked(libc: ctypes.CDLL, folder: Path) -> bool:
    version = libc.syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return False
    every = (1 << _KNOWN.get(version, 15)) - 1
    rules = _Rules(every & ~_READING)
    handle = libc.syscall(_CREATE, ctypes.byref(rules), ctypes.c_size_t(ctypes.sizeof(rules)), ctypes.c_uint32(0))
    place = os.open(folder, os.O_PATH)
    try:
        allowed = _Beneath(rules.files & ~_EXECUTE, place)
        done = (
            handle >= 0
            and libc.syscall(_ADD, handle, _BENEATH, ctypes.byref(allowed), ctypes.c_uint32(0)) == 0
            and libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
            and libc.syscall(_RESTRICT, handle, ctypes.c_uint32(0)) == 0
        )
    finally:
        os.close(place)
    return bool(done)
