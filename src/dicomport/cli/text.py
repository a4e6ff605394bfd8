"""Figures and peers' text for people."""

from __future__ import annotations

import click

from dicomport.logs import printable

__all__ = ["amount", "count", "tell"]


def amount(size: float) -> str:
    """Write a number of bytes: "512 B", "1.4 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def count(number: int, noun: str) -> str:
    """Write a number of things: "1 instance", "2 instances"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def tell(text: str) -> None:
    """Tell a person something, on stderr; what a peer or a file name may have put in can't move the terminal."""
    click.echo("\n".join(map(printable, text.split("\n"))), err=True)
