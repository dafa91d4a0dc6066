"""Run a command as on a system that has only what all systems have: `python bare_system.py upload ...`.

Takes away modules, functions and constants that Windows or macOS lack, hides `/proc`, and makes asyncio's event loop
refuse what that of Windows refuses. What the standard library or numpy needs for itself on Linux stays.
"""

from __future__ import annotations

import runpy
import sys
from typing import Any

SYSTEM_MODULES = ("fcntl", "grp", "pwd", "resource", "termios", "tty")

ATTRIBUTES = {
    "os": "O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_TMPFILE fork getuid geteuid link memfd_create nice "
    "posix_fadvise pread preadv pwrite pwritev readv register_at_fork sched_getaffinity sendfile splice sysconf writev",
    "select": "epoll poll",
    "signal": "SIGALRM SIGHUP SIGQUIT SIGUSR1 setitimer",
    "_socket": "MSG_MORE MSG_NOSIGNAL SO_REUSEPORT TCP_CORK TCP_INFO TCP_USER_TIMEOUT",
    "time": "clock_gettime pthread_getcpuclockid thread_time",
}

LOOP_METHODS = ("add_reader", "add_writer", "remove_reader", "remove_writer", "add_signal_handler")


def take_away() -> None:
    """Remove what is not everywhere; call before anything of it is imported."""
    for name in (*SYSTEM_MODULES, "uvloop"):
        sys.modules[name] = None  # type: ignore[assignment]  # an import of it raises ImportError
    for module, names in ATTRIBUTES.items():
        imported = __import__(module)
        for name in names.split():
            delattr(imported, name)
    sys.addaudithook(_hide_proc)

    from asyncio import SelectorEventLoop

    for name in LOOP_METHODS:
        setattr(SelectorEventLoop, name, _refuse)


def _hide_proc(event: str, arguments: tuple[Any, ...]) -> None:
    if event in {"open", "os.listdir", "os.scandir"} and str(arguments[0]).startswith("/proc"):
        raise FileNotFoundError(2, "No such file or directory", arguments[0])


def _refuse(*_: object) -> None:
    raise NotImplementedError


if __name__ == "__main__":
    take_away()
    runpy.run_module("bulkstow", run_name="__main__", alter_sys=True)
