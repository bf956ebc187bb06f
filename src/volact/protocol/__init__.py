"""Bytes and values that every party agrees on: pure functions, no I/O, no clock, no randomness.

Everything here follows PROTOCOL.md; whoever implements another end needs these files and the vectors
in ``tests/vectors`` and nothing else. Values are named tuples and not dataclasses: ``dataclasses`` pulls
in ``inspect``, a tenth of the start-up time that ``volact.check()`` is allowed (docs/adr/0002).
"""
