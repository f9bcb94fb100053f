"""System calls by name, for tests of what happens where the kernel refuses one."""

from medxai.model.syscalls import MACHINE

_NUMBERS = {
    "x86_64": {
        "fsync": 74,
        "rename": 82,
        "prctl": 157,
        "renameat": 264,
        "unshare": 272,
        "renameat2": 316,
        "landlock_create_ruleset": 444,
    },
    "aarch64": {
        "renameat": 38,
        "fsync": 82,
        "unshare": 97,
        "prctl": 167,
        "renameat2": 276,
        "landlock_create_ruleset": 444,
    },
}


def numbers(*names: str) -> list[int]:
    """Their numbers on this machine; what it does not have is left out."""
    return [number for name, number in _NUMBERS[MACHINE].items() if name in names]
