"""A test leaves nothing behind: no open file or socket, no listening port, no process, no thread.

tests/conftest.py checks the rooms whose objects own such things. The check also lowers the limit of open files, so
that a descriptor per instance fails within a thousand instances and not beyond the machine's limit.
"""

import contextlib
import gc
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

OPEN_FILES = 1024
ENDING_SECONDS = 3


@contextlib.contextmanager
def nothing_left_behind() -> Iterator[None]:
    """Compare what this process owns before and after a test and its fixtures."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    before, threads = _owned(), set(threading.enumerate())
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, limits[1]), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    if _owned() - before or set(threading.enumerate()) - threads:
        gc.collect()  # An object in a circle closes what it owns, with a ResourceWarning, which is an error.
    left = sorted(_owned() - before)
    assert left == [], f"left behind: {left}"
    started = [thread for thread in threading.enumerate() if thread not in threads and not thread.daemon]
    for thread in started:
        thread.join(ENDING_SECONDS)  # that of a pool ends once the pool is unreachable
    running = [thread.name for thread in started if thread.is_alive()]
    assert running == [], f"threads left behind: {running}"


def _owned() -> set[tuple[str, str]]:
    return open_files() | processes()


def open_files() -> set[tuple[str, str]]:
    """Return each descriptor with its file or socket; that of a listening socket names its port."""
    listening = _listening()
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
        found.add((link.name, listening.get(target, target)))
    return found


def processes() -> set[tuple[str, str]]:
    """Return the processes that this one has started and not waited for."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            found |= {("process", child) for child in (task / "children").read_text().split()}
    return found


def _listening() -> dict[str, str]:
    """Return the name of each listening socket of the machine by its link in /proc."""
    names = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                names[f"socket:[{fields[9]}]"] = f"listening on port {int(fields[1].rpartition(':')[2], 16)}"
    return names
