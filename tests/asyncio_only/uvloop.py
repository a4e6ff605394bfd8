"""Stands in the place of uvloop, as if it were not installed."""

raise ImportError
