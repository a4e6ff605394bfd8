"""Targets that hold dicomport to its invariants on any bytes, and what feeds them.

    targets.py       the targets by name: functions of bytes that raise where an invariant is broken
    wire.py, archive.py, association.py, sender.py    what each of them does; its docstring is its invariant
    corpus/TARGET/   the seeds, written by seeds.py
    __main__.py      runs the targets under atheris, each in a process of its own (process.py)

`tests/fuzz` runs the same targets without atheris, over the seeds and mutations of them.
"""
