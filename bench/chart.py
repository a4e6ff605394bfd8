"""A bar chart in SVG: instances per second of each receiver and sender."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

__all__ = ["Bar", "Panel", "draw"]

_WIDTH: Final = 760
_NAMES: Final = 250
"""Horizontal position of the bars."""
_MAX_LENGTH: Final = 420
_BAR: Final = 18
_STEP: Final = 26
_TITLE: Final = 34
_OURS: Final = "#1f6f8b"
_THEIRS: Final = "#a9b4bd"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar."""

    name: str
    value: float
    ours: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars on one scale."""

    title: str
    bars: Sequence[Bar]


def draw(panels: Sequence[Panel]) -> str:
    """Draw panels below one another."""
    parts: list[str] = []
    y = 0
    for panel in panels:
        parts.append(_text(0, y + 20, panel.title, weight="bold"))
        y += _TITLE
        most = max((bar.value for bar in panel.bars), default=0.0)
        for bar in sorted(panel.bars, key=lambda bar: -bar.value):
            length = max(1.0, _MAX_LENGTH * bar.value / most)
            parts.append(_text(_NAMES - 8, y + 13, bar.name, anchor="end"))
            fill = _OURS if bar.ours else _THEIRS
            parts.append(f'<rect x="{_NAMES}" y="{y}" width="{length:.0f}" height="{_BAR}" fill="{fill}"/>')
            parts.append(_text(_NAMES + length + 6, y + 13, f"{bar.value:,.0f}"))
            y += _STEP
    style = 'font-family="system-ui, sans-serif" font-size="13" fill="#222"'
    paper = f'<rect width="{_WIDTH}" height="{y}" fill="#fff"/>'
    body = "\n".join((paper, *parts))
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" {style}>\n{body}\n</svg>\n'


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
