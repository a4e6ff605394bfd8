"""Convert instances to another transfer syntax, without loss."""

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
"""Transfer syntaxes that are always lossless. Those that may be lossy are not converted: decompression loses nothing
more, but hides the lossy compression from the recipient (PS3.3 C.7.6.1.1.5)."""

_UNCOMPRESSED: Final = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)


def alternatives(transfer_syntax_uid: str) -> tuple[str, ...]:
    """Return the transfer syntaxes to which an instance in this one can be converted without loss, the best first.

    Uncompressed and deflated ones are converted into each other, but not to big endian. Losslessly compressed ones are
    decompressed if pydicom finds an installed decoder.
    """
    syntax = find_transfer_syntax(transfer_syntax_uid)
    if syntax is None:
        return ()
    if syntax.uncompressed or syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        return tuple(target.uid for target in _UNCOMPRESSED if target != syntax)
    if syntax.uid in _LOSSLESS and not lacks_decoder(syntax.uid):
        return EXPLICIT_VR_LITTLE_ENDIAN.uid, IMPLICIT_VR_LITTLE_ENDIAN.uid
    return ()


def lacks_decoder(transfer_syntax_uid: str) -> bool:
    """Return whether instances in this transfer syntax could be decompressed without loss, if a decoder was there."""
    if transfer_syntax_uid not in _LOSSLESS:
        return False
    from dicomport.scu.transform.pixels import can_decompress

    return not can_decompress(transfer_syntax_uid)


def convert(instance: Instance, to: str) -> Instance:
    """Return the instance in another transfer syntax, with the same UIDs.

    Values stay byte for byte, except big endian numbers and compressed pixels. Lengths of sequences change, and group
    lengths are omitted. It needs memory of two to three times the length of the data set. Raises `NotSendableError` if
    the instance cannot be read or converted.
    """
    source, target = find_transfer_syntax(instance.transfer_syntax_uid), find_transfer_syntax(to)
    if source is None or target is None or to not in alternatives(instance.transfer_syntax_uid):
        raise NotSendableError(
            f"{describe(instance.transfer_syntax_uid)} cannot be converted to {describe(to)} without loss"
        )
    data = instance.read()
    converted = _converted(_inflated(data) if source.deflated else data, source, target)
    return dataclasses.replace(
        instance,
        transfer_syntax_uid=to,
        source=spooled(deflate(converted) if target.deflated else converted, instance.stamp),
        converted_from=instance.converted_from or instance.transfer_syntax_uid,
    )


def _converted(data: bytes, source: TransferSyntax, target: TransferSyntax) -> bytes:
    """Convert an inflated data set; the result is not deflated yet."""
    before, after = _without_compression(source), _without_compression(target)
    if before == after and not source.encapsulated:
        return data
    from dicomport.scu.transform.transcoding import transcode

    if not source.encapsulated:
        return transcode(data, before, after)
    from dicomport.scu.transform.pixels import decompressed

    return transcode(data, before, after, decompressed(data, source))


def _without_compression(syntax: TransferSyntax) -> TransferSyntax:
    """Return the transfer syntax of the elements themselves (PS3.5 A.4, A.5)."""
    return EXPLICIT_VR_LITTLE_ENDIAN if syntax.deflated or syntax.encapsulated else syntax


def _inflated(data: bytes) -> bytes:
    """Inflate a data set (PS3.5 A.5). Raises `NotSendableError`."""
    try:
        return inflate(data, max_decompressed(len(data)))
    except DataSetTooLongError:
        raise NotSendableError("its inflated data set exceeds the limit") from None
    except DataSetError as error:
        raise NotSendableError(f"its deflated data set is damaged: {error}") from None
