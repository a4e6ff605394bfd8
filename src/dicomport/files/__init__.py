"""DICOM files on disk (PS3.10): names that peers can't abuse, reading of headers, writing that is all or nothing."""

from dicomport.files.blocks import BLOCK_BYTES, BlockWriter
from dicomport.files.names import file_name
from dicomport.files.reading import Part10File, read_part10
from dicomport.files.writing import TEMPORARY_SUFFIX, Durability, PartialFile, TemporaryFile, make_folder, sync

__all__ = [
    "BLOCK_BYTES",
    "TEMPORARY_SUFFIX",
    "BlockWriter",
    "Durability",
    "Part10File",
    "PartialFile",
    "TemporaryFile",
    "file_name",
    "make_folder",
    "read_part10",
    "sync",
]
