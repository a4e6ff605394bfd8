"""Verification of an archive: the walk over its files, and its rate."""
