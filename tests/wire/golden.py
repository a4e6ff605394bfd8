"""Bytes as the standard's tables print them: hex and text, comments, and the length fields marked.

01 00                  # hex octets
00{32}                 # an octet thirty-two times
'1.2.840.10008.1.1'    # characters
[00 11]                # a length field, so that tests can put wrong values into it
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

_TOKEN = re.compile(
    r"\s+|#.*|'(?P<text>[^']*)'|(?P<octet>[0-9A-F]{2})(?:\{(?P<times>\d+)\})?|(?P<open>\[)|(?P<close>\])"
)


@dataclass(frozen=True, slots=True)
class Golden:
    data: bytes
    lengths: tuple[tuple[int, int], ...]
    """Offset and size of each length field."""
    order: Literal["big", "little"]

    def mutations(self) -> Iterator[bytes]:
        """Each length field one too long, one too short, zero, 65535, and the most that it holds."""
        for offset, size in self.lengths:
            top = 256**size - 1
            value = int.from_bytes(self.data[offset : offset + size], self.order)
            for wrong in {min(value + 1, top), max(0, value - 1), 0, 65535, top} - {value}:
                yield self.data[:offset] + wrong.to_bytes(size, self.order) + self.data[offset + size :]

    def truncations(self) -> Iterator[bytes]:
        """Everything that the bytes begin with, but the whole."""
        return (self.data[:size] for size in range(len(self.data)))


def golden(text: str, order: Literal["big", "little"] = "big") -> Golden:
    """Read the notation above."""
    data = bytearray()
    lengths: list[tuple[int, int]] = []
    at = opened = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise ValueError(f"no token: {text[at : at + 20]!r}")
        at = token.end()
        if token["text"] is not None:
            data += token["text"].encode("ascii")
        elif token["octet"]:
            data += bytes.fromhex(token["octet"]) * int(token["times"] or 1)
        elif token["open"]:
            opened = len(data)
        elif token["close"]:
            lengths.append((opened, len(data) - opened))
    return Golden(bytes(data), tuple(lengths), order)


def with_pdu_length(data: bytes) -> bytes:
    """Return a shortened or extended PDU with its new length, so that its body is decoded."""
    return data[:2] + max(0, len(data) - 6).to_bytes(4, "big") + data[6:]
