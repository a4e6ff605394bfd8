"""Instances in another transfer syntax than they were found in: only when asked for, and only without any loss."""

from __future__ import annotations

import dataclasses
from typing import Final

from dicomport.encoding.errors import DataSetError, DataSetTooLongError
from dicomport.encoding.inflate import deflate, inflate
from dicomport.scu.inputs.containers import max_decompressed
from dicomport.scu.inputs.instance import Instance, NotSendableError
from dicomport.scu.inputs.temporary import spooled
from dicomport.standard import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TransferSyntax,
    describe,
    find_transfer_syntax,
)
from dicomport.wire import FileMetaError

__all__ = ["alternatives", "convert"]

_LOSSLESS: Final = frozenset(
    (
        "1.2.840.10008.1.2.4.57",  # JPEG Lossless, Process 14
        "1.2.840.10008.1.2.4.70",  # the same, Selection Value 1
        "1.2.840.10008.1.2.4.80",  # JPEG-LS
        "1.2.840.10008.1.2.4.90",  # JPEG 2000
        "1.2.840.10008.1.2.4.201",  # High-Throughput JPEG 2000
        "1.2.840.10008.1.2.4.202",  # the same, RPCL
        "1.2.840.10008.1.2.5",  # RLE
    )
)
"""What compresses without loss, whoever did it. Syntaxes that may do either are none of them: decompressing what was
compressed with loss loses nothing more, but would hide from the next one that it was (PS3.3 C.7.6.1.1.5)."""

_CHUNK_BYTES: Final = 1 << 20
_UNCOMPRESSED: Final = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)


def alternatives(transfer_syntax_uid: str) -> tuple[str, ...]:
    """Give the transfer syntaxes that an instance in this one can be converted to without loss, the best first.

    Uncompressed and deflated ones convert into each other, but none into big endian. What was compressed by a lossless
    syntax is decompressed where pydicom finds a decoder installed.
    """
    syntax = find_transfer_syntax(transfer_syntax_uid)
    if syntax is None:
        return ()
    if syntax.uncompressed or syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        return tuple(target.uid for target in _UNCOMPRESSED if target != syntax)
    if syntax.uid in _LOSSLESS:
        from dicomport.scu.transform.pixels import can_decompress

        if can_decompress(syntax.uid):
            return EXPLICIT_VR_LITTLE_ENDIAN.uid, IMPLICIT_VR_LITTLE_ENDIAN.uid
    return ()


def convert(instance: Instance, to: str) -> Instance:
    """Give the instance in another transfer syntax, with the same UIDs, as nothing of it is lost.

    Values stay byte for byte what they are, but for big endian and for pixels that are decompressed; sequences get
    other lengths, and those of groups are left out. In memory it needs two to three times the length of the data set.
    Raises `NotSendableError` for what can't be converted, or can't be read.
    """
    source, target = find_transfer_syntax(instance.transfer_syntax_uid), find_transfer_syntax(to)
    if source is None or target is None or to not in alternatives(instance.transfer_syntax_uid):
        raise NotSendableError(
            f"{describe(instance.transfer_syntax_uid)} can't be converted to {describe(to)} without loss"
        )
    try:
        data = b"".join(map(bytes, instance.chunks(_CHUNK_BYTES)))
    except (OSError, FileMetaError) as error:
        raise NotSendableError(f"can't be read: {error}") from error
    converted = _converted(_inflated(data) if source.deflated else data, source, target)
    return dataclasses.replace(
        instance,
        transfer_syntax_uid=to,
        source=spooled(deflate(converted) if target.deflated else converted, instance.stamp),
        converted_from=instance.converted_from or instance.transfer_syntax_uid,
    )


def _converted(data: bytes, source: TransferSyntax, target: TransferSyntax) -> bytes:
    """Convert what is inflated already to what is still to be deflated."""
    before, after = _without_compression(source), _without_compression(target)
    if before == after and not source.encapsulated:
        return data
    from dicomport.scu.transform.transcoding import transcode

    if not source.encapsulated:
        return transcode(data, before, after)
    from dicomport.scu.transform.pixels import decompressed

    return transcode(data, before, after, decompressed(data, source))


def _without_compression(syntax: TransferSyntax) -> TransferSyntax:
    """Tell how the elements are encoded (PS3.5 A.4, A.5)."""
    return EXPLICIT_VR_LITTLE_ENDIAN if syntax.deflated or syntax.encapsulated else syntax


def _inflated(data: bytes) -> bytes:
    """Undo PS3.5 A.5."""
    try:
        return inflate(data, max_decompressed(len(data)))
    except DataSetTooLongError:
        raise NotSendableError("its data set would be so much longer than it is that it is not inflated") from None
    except DataSetError as error:
        raise NotSendableError(f"its deflated data set is damaged: {error}") from None
