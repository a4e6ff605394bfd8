"""DICOM files on disk (PS3.10): safe names, reading of headers, atomic and durable writing, locks, temporary files."""

from dicomport.files import system
from dicomport.files.blocks import BLOCK_BYTES, DEFAULT_MEMORY_BYTES, BlockWriter, Disk, MemoryBudget, in_thread
from dicomport.files.names import file_name
from dicomport.files.reading import BoundedReader, Part10File, find_file_meta, open_regular, read_part10, read_range
from dicomport.files.writing import TEMPORARY_SUFFIX, Durability, PartialFile, TemporaryFile, make_folder, sync

__all__ = [
    "BLOCK_BYTES",
    "DEFAULT_MEMORY_BYTES",
    "TEMPORARY_SUFFIX",
    "BlockWriter",
    "BoundedReader",
    "Disk",
    "Durability",
    "MemoryBudget",
    "Part10File",
    "PartialFile",
    "TemporaryFile",
    "file_name",
    "find_file_meta",
    "in_thread",
    "make_folder",
    "open_regular",
    "read_part10",
    "read_range",
    "sync",
    "system",
]
