"""Decompress losslessly compressed images, with the decoders that pydicom finds installed."""

from __future__ import annotations

import functools
import importlib.util
import io
from collections.abc import Callable, Iterator
from typing import Final

from pydicom import FileDataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, JPEG2000TransferSyntaxes, RLELossless

from dicomport.encoding.headers import PIXEL_DATA
from dicomport.scu.inputs.containers import max_decompressed
from dicomport.scu.inputs.instance import NotSendableError
from dicomport.scu.transform.codestreams import jpeg_2000_size, jpeg_size, rle_lengths
from dicomport.scu.transform.transcoding import Replacements
from dicomport.standard import TransferSyntax
from dicomport.wire import FileMeta, encode_file_meta

_EXTENDED_OFFSETS: Final = (0x7FE00001, 0x7FE00002)
"""The offsets and lengths of frames in fragments (PS3.3 C.7.6.3.1.8)."""
_PHOTOMETRIC_INTERPRETATION: Final = 0x00280004
_PLANAR_CONFIGURATION: Final = 0x00280006
_COLOUR_BY_PIXEL: Final = b"\0\0"
_MAX_VALUE: Final = 0xFFFFFFFE
"""Maximum length of a value with a defined length (PS3.5 7.1.2), bytes."""
_WHOLE_BYTES: Final = frozenset((8, 16, 32))
"""Supported Bits Allocated."""

_INTERPRETATIONS: Final = {
    **{name: name for name in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL")},
    "YBR_RCT": "RGB",
}
"""Photometric Interpretations, and those after decompression. YBR_RCT is a reversible transform inside JPEG 2000
(PS3.5 8.2.4); the others describe the samples before compression."""


@functools.cache
def can_decompress(transfer_syntax_uid: str) -> bool:
    """Return whether a decoder is installed, and numpy, without which pydicom returns no samples."""
    try:
        available = bool(get_decoder(UID(transfer_syntax_uid)).is_available)
    except NotImplementedError:
        return False
    return available and importlib.util.find_spec("numpy") is not None


def decompressed(data: bytes, syntax: TransferSyntax) -> Replacements:
    """Return the elements that replace those of a compressed data set; none if it has no pixels.

    Raises `NotSendableError` if it cannot be decompressed, or if samples might change.
    """
    try:
        dataset = dcmread(io.BytesIO(encode_file_meta(FileMeta(transfer_syntax_uid=syntax.uid)) + data))
        return _native(dataset) if PIXEL_DATA in dataset else {}
    except (NotSendableError, KeyboardInterrupt, SystemExit):
        raise
    except (
        BaseException
    ) as error:  # pydicom raises exceptions of any type; panics of decoders in Rust are not `Exception`s
        raise NotSendableError(f"its pixels cannot be decompressed: {' '.join(str(error).split())}") from error


def _native(dataset: FileDataset) -> Replacements:
    before, bits = str(dataset.PhotometricInterpretation), int(dataset.BitsAllocated)
    if before not in _INTERPRETATIONS or bits not in _WHOLE_BYTES:
        raise NotSendableError(f"{before} pixels of {bits} bits are not supported")
    after = _INTERPRETATIONS[before]
    samples, frames = int(dataset.SamplesPerPixel), int(dataset.get("NumberOfFrames") or 1)
    frame_bytes = int(dataset.Rows) * int(dataset.Columns) * samples * bits // 8
    if frame_bytes * frames > min(_MAX_VALUE, max_decompressed(len(dataset.PixelData))):
        raise NotSendableError("its decompressed pixels exceed the limit")
    _check_frames(dataset, bits // 8, frames)
    pixels = list(_frames(dataset, after, bits // 8))
    if [len(frame) for frame in pixels] != [frame_bytes] * frames:
        raise NotSendableError("its decompressed frames have a wrong length")
    pixels.append(bytes(frame_bytes * frames % 2))
    replacements: dict[int, tuple[bytes, bytes] | None] = {
        **dict.fromkeys(_EXTENDED_OFFSETS),
        PIXEL_DATA: (b"OW" if bits > 8 else b"OB", b"".join(pixels)),
    }
    if after != before:
        replacements[_PHOTOMETRIC_INTERPRETATION] = (b"CS", f"{after} ".encode()[: len(after) + len(after) % 2])
    if samples > 1:
        replacements[_PLANAR_CONFIGURATION] = (b"US", _COLOUR_BY_PIXEL)
    return replacements


def _check_frames(dataset: FileDataset, sample_bytes: int, frames: int) -> None:
    """Compare the size of each compressed frame with that of the data set: decoders crop silently."""
    rows, columns, samples = int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel)
    syntax = dataset.file_meta.TransferSyntaxUID
    expected: object = (rows, columns, samples)
    size_of: Callable[[bytes], object] = jpeg_2000_size if syntax in JPEG2000TransferSyntaxes else jpeg_size
    if syntax == RLELossless:
        expected, size_of = [rows * columns] * (samples * sample_bytes), rle_lengths
    offsets = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    compressed = generate_frames(
        dataset.PixelData, number_of_frames=frames, extended_offsets=offsets if all(offsets) else None
    )
    count = 0
    for frame in compressed:
        count += 1
        if (found := size_of(frame)) != expected:
            raise NotSendableError(f"the size of its compressed frame {count} is {found}, expected {expected}")
    if count != frames:
        raise NotSendableError(f"it has {count} compressed frames, expected {frames}")


def _frames(dataset: FileDataset, interpretation: str, sample_bytes: int) -> Iterator[bytes]:
    """Yield each decompressed frame, colour by pixel, in samples of `sample_bytes`."""
    syntax, signed = dataset.file_meta.TransferSyntaxUID, bool(dataset.PixelRepresentation)
    # RLE keeps each bit; the others do not always keep the unused bits of pixels.
    keeps_bits = syntax == RLELossless
    if not keeps_bits and _has_embedded_overlay(dataset):
        raise NotSendableError("it has overlays in the unused bits of its pixels")
    decoder = get_decoder(syntax)
    for samples, found in decoder.iter_array(
        dataset, raw=True, as_rgb=False, correct_unused_bits=signed and not keeps_bits
    ):
        if (other := found["photometric_interpretation"]) != interpretation:
            raise NotSendableError(f"its compressed pixels are {other}, expected {interpretation}")
        if samples.dtype.itemsize > sample_bytes:
            raise NotSendableError(f"its compressed samples have more than {8 * sample_bytes} bits")
        yield samples.astype(f"<{'ui'[signed]}{sample_bytes}", copy=False).tobytes()


def _has_embedded_overlay(dataset: FileDataset) -> bool:
    """Return whether an overlay is in the unused bits of pixels, which is retired (PS3.5 8.1.2)."""
    bit_positions = (group << 16 | 0x0102 for group in range(0x6000, 0x6020, 2))
    return any(dataset[tag].value for tag in bit_positions if tag in dataset)
