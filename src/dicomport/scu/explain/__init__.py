"""Explaining a connection: steps, probes, advice."""
