"""Refuses system calls to this process and all that descend from it, for good: a container's profile, in small."""

import ctypes
import os
import platform
import struct

# Source: linux/prctl.h, linux/seccomp.h, linux/bpf_common.h; seccomp(2).
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_LOAD_WORD = 0x20
_JUMP_IF_EQUAL = 0x15
_RETURN = 0x06

_INSTRUCTION = struct.Struct("HBBI")  # struct sock_filter: code, jump if true, jump if false, operand
_PROGRAM = struct.Struct("@HP")  # struct sock_fprog: how many there are, and where

#: {machine: {system call: its number}}. Source: asm/unistd_64.h, asm-generic/unistd.h.
_NUMBERS = {
    "x86_64": {"memfd_create": 319, "pidfd_send_signal": 424, "pidfd_open": 434},
    "aarch64": {"memfd_create": 279, "pidfd_send_signal": 424, "pidfd_open": 434},
}


def can_refuse() -> bool:
    """Whether the numbers of this machine's system calls are known."""
    return platform.machine() in _NUMBERS


def refuse(names: list[str], error: int) -> None:
    """From now on these system calls fail with that errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    instructions = [_INSTRUCTION.pack(_LOAD_WORD, 0, 0, 0)]  # the number: first field of struct seccomp_data
    for name in names:
        instructions += [
            _INSTRUCTION.pack(_JUMP_IF_EQUAL, 0, 1, _NUMBERS[platform.machine()][name]),
            _INSTRUCTION.pack(_RETURN, 0, 0, _ERRNO | error),
        ]
    instructions.append(_INSTRUCTION.pack(_RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(instructions))
    program = ctypes.create_string_buffer(_PROGRAM.pack(len(instructions), ctypes.addressof(code)))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
