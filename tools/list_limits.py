"""List docs/limits.md from the code: each limit and each timer with its default, its flag and its reason.

`--check` writes nothing and exits with 1 when the page is stale.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from dicomport.cli.options import limit as limit_options
from dicomport.cli.options import timeout as timeout_options
from dicomport.net import Timeouts
from dicomport.wire import Limits

PAGE = Path(__file__).parent.parent / "docs" / "limits.md"

_INTRODUCTION = """\
# Limits and timers

Listed by `tools/list_limits.py` from `dicomport.Limits` and `dicomport.Timeouts`. `StorageSCP` takes others (`limits`,
`timeouts`), and so do the commands' flags. Where a limit is met or a timer expires, only the one who has met it
notices: its association is rejected or aborted, its instance refused, its connection closed.

Each has its name in the log (`association_rejected`, `association_ended`, `connection_evicted`,
`connection_timed_out`), and a count: `StorageSCP.counters` is a mapping with `limit.associations`, `timer.idle` and so
on, and with what peers got wrong and was put up with (`deviation.uid-padding`); `server_stopped` logs it at the end.
"""

_LIMITS = """\
## Limits

Who has no association yet can't keep out others: idle connections, stalled TLS handshakes and peers that don't close
make room for whoever comes, the oldest first. Who has an association keeps it, and whoever is one too many is rejected
for now (A-ASSOCIATE-RJ, result 2, source 3, reason 2), at once.

`storescp` lets itself have as many files open as this takes, or says that there can't be so many associations.
"""

_TIMERS = """\
## Timers

In seconds, on a clock that nobody sets. What takes this side long, such as a slow disk, is not the peer's time. TCP
keepalive is on: a peer that has lost its power is found out after two minutes.
"""

_SUFFIXES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def page() -> str:
    """Give the whole page."""
    limits = {name: flag.name for name, flag in limit_options.FLAGS.items()}
    timers = {name: ", ".join(flag.names) for name, flag in timeout_options.FLAGS.items()}
    follows = {name: flag.follows for name, flag in timeout_options.FLAGS.items() if flag.follows}
    lines = (
        *(_INTRODUCTION, _LIMITS, *_table(Limits, {}, limits), ""),
        *(_TIMERS, *_table(Timeouts, follows, timers), ""),
    )
    return "\n".join(lines)


def _table(kind: type[Limits | Timeouts], follows: Mapping[str, str], flags: Mapping[str, str]) -> Iterator[str]:
    reasons = _docstrings(kind)
    yield "| name | default | flag | what it bounds, and why |"
    yield "|---|---|---|---|"
    for name, value in dataclasses.asdict(kind()).items():
        default = f"as `{follows[name]}`" if value is None else _amount(name, value)
        flag = f"`{flags[name]}`" if name in flags else ""
        yield f"| `{name}` | {default} | {flag} | {reasons[name]} |"


def _docstrings(kind: type[Limits | Timeouts]) -> dict[str, str]:
    """Read the docstrings of a class's fields, of which the running code knows nothing."""
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    if not isinstance(tree, ast.ClassDef):
        raise TypeError(kind)
    found = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            found[field.target.id] = " ".join(ast.literal_eval(text.value).split())
    return found


def _amount(name: str, value: float) -> str:
    """Write a default as a person would."""
    if name.endswith("_bytes"):
        for factor, suffix in _SUFFIXES:
            if value >= factor:
                return f"{value / factor:g} {suffix}"
    return f"{value:,.10g}"


def main() -> int:
    """Write the page, or check it."""
    listed = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(listed, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == listed:
        return 0
    print(f"{PAGE.name} is stale: run python tools/list_limits.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
