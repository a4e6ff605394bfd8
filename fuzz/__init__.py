"""Targets that check dicomport's invariants on any bytes, and the programs that feed them.

    targets.py       the targets by name: functions of bytes that raise if an invariant is violated
    wire.py, archive.py, index.py, association.py, receiver.py, sender.py    the code of each target, whose docstring is
                     its invariant
    corpus/TARGET/   the seeds, written by seeds.py
    __main__.py      runs the targets under atheris, each in a separate process (process.py)

`tests/fuzz` runs the same targets without atheris, over the seeds and mutations of them.
"""
