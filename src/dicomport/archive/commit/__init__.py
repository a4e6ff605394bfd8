"""Commit received instances: sink, committer, indexer, sessions, recovery."""
