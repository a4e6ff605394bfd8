"""Limits of connections and associations, and their counters."""
