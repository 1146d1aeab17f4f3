"""Which system calls code in the sandbox may make: a seccomp filter, for bubblewrap to load.

It names what is allowed; all else does not exist there (ENOSYS). There is no way to a process or a thread, a socket
that leads anywhere, another namespace, a mount, a key ring, shared memory, a file of memory, a debugger: also for root,
whom `RLIMIT_NPROC` does not hold.
"""

import platform
import struct

from rlhf.core.errors import UserError

# (numbers, the machine's name in a filter): linux/audit.h, and each machine's asm/unistd.h
_X86_64 = {
    "read": 0, "write": 1, "open": 2, "openat": 257, "close": 3, "stat": 4, "fstat": 5, "lstat": 6,
    "newfstatat": 262, "statx": 332, "lseek": 8, "access": 21, "faccessat": 269, "faccessat2": 439, "readlink": 89,
    "readlinkat": 267, "getcwd": 79, "getdents64": 217, "pread64": 17, "readv": 19, "writev": 20, "pipe": 22,
    "pipe2": 293, "dup": 32, "dup2": 33, "dup3": 292, "fcntl": 72, "ioctl": 16, "poll": 7, "ppoll": 271,
    "select": 23, "pselect6": 270, "epoll_create1": 291, "epoll_ctl": 233, "epoll_wait": 232, "epoll_pwait": 281,
    "eventfd2": 290, "socketpair": 53, "sendto": 44, "recvfrom": 45, "getsockopt": 55, "getsockname": 51, "mmap": 9,
    "munmap": 11, "mprotect": 10, "mremap": 25, "madvise": 28, "brk": 12, "membarrier": 324, "rt_sigaction": 13,
    "rt_sigprocmask": 14, "rt_sigreturn": 15, "rt_sigpending": 127, "rt_sigtimedwait": 128, "rt_sigsuspend": 130,
    "sigaltstack": 131, "tgkill": 234, "pause": 34, "alarm": 37, "setitimer": 38, "getitimer": 36,
    "restart_syscall": 219, "nanosleep": 35, "clock_nanosleep": 230, "clock_gettime": 228, "clock_getres": 229,
    "gettimeofday": 96, "time": 201, "times": 100, "getrusage": 98, "futex": 202, "set_robust_list": 273,
    "set_tid_address": 218, "arch_prctl": 158, "rseq": 334, "sched_yield": 24, "sched_getaffinity": 204,
    "getcpu": 309, "sysinfo": 99, "uname": 63, "getpid": 39, "gettid": 186, "getppid": 110, "getuid": 102,
    "geteuid": 107, "getgid": 104, "getegid": 108, "getgroups": 115, "umask": 95, "fadvise64": 221, "getrlimit": 97,
    "setrlimit": 160, "prlimit64": 302, "getrandom": 318, "execve": 59, "wait4": 61, "exit": 60, "exit_group": 231,
}  # fmt: skip
_ARM_64 = {
    "read": 63, "write": 64, "openat": 56, "close": 57, "fstat": 80, "newfstatat": 79, "statx": 291, "lseek": 62,
    "faccessat": 48, "faccessat2": 439, "readlinkat": 78, "getcwd": 17, "getdents64": 61, "pread64": 67,
    "readv": 65, "writev": 66, "pipe2": 59, "dup": 23, "dup3": 24, "fcntl": 25, "ioctl": 29, "ppoll": 73,
    "pselect6": 72, "epoll_create1": 20, "epoll_ctl": 21, "epoll_pwait": 22, "eventfd2": 19, "socketpair": 199,
    "sendto": 206, "recvfrom": 207, "getsockopt": 209, "getsockname": 204, "mmap": 222, "munmap": 215,
    "mprotect": 226, "mremap": 216, "madvise": 233, "brk": 214, "membarrier": 283, "rt_sigaction": 134,
    "rt_sigprocmask": 135, "rt_sigreturn": 139, "rt_sigpending": 136, "rt_sigtimedwait": 137, "rt_sigsuspend": 133,
    "sigaltstack": 132, "tgkill": 131, "setitimer": 103, "getitimer": 102, "restart_syscall": 128, "nanosleep": 101,
    "clock_nanosleep": 115, "clock_gettime": 113, "clock_getres": 114, "gettimeofday": 169, "times": 153,
    "getrusage": 165, "futex": 98, "set_robust_list": 99, "set_tid_address": 96, "rseq": 293, "sched_yield": 124,
    "sched_getaffinity": 123, "getcpu": 168, "sysinfo": 179, "uname": 160, "getpid": 172, "gettid": 178,
    "getppid": 173, "getuid": 174, "geteuid": 175, "getgid": 176, "getegid": 177, "getgroups": 158, "umask": 166,
    "fadvise64": 223, "getrlimit": 163, "setrlimit": 164, "prlimit64": 261, "getrandom": 278, "execve": 221,
    "wait4": 260, "exit": 93, "exit_group": 94,
}  # fmt: skip
MACHINES = {"x86_64": (_X86_64, 0xC000003E), "aarch64": (_ARM_64, 0xC00000B7)}

# linux/bpf_common.h and linux/seccomp.h
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_KILL_PROCESS, _ALLOW, _NO_SUCH_CALL = 0x80000000, 0x7FFF0000, 0x00050000 | 38
_NUMBER_AT, _MACHINE_AT = 0, 4  # in struct seccomp_data


def syscall_filter(machine: str | None = None) -> bytes:
    """The filter for this machine (or the one named), as classic BPF.

    Raises:
        UserError: it is neither x86_64 nor aarch64; one line.
    """
    machine = machine or platform.machine()
    if machine not in MACHINES:
        raise UserError(f"the sandbox for code is known for {' and '.join(MACHINES)} alone; this machine is {machine}")
    numbers, name = MACHINES[machine]
    program = [_step(_LOAD_WORD, _MACHINE_AT), _step(_JUMP_IF_EQUAL, name, 1, 0), _step(_RETURN, _KILL_PROCESS)]
    program.append(_step(_LOAD_WORD, _NUMBER_AT))
    for number in sorted(numbers.values()):
        program += [_step(_JUMP_IF_EQUAL, number, 0, 1), _step(_RETURN, _ALLOW)]
    return b"".join([*program, _step(_RETURN, _NO_SUCH_CALL)])


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)  # struct sock_filter
