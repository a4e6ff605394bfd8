"""DICOM files on disk (PS3.10): names that peers can't abuse, reading of headers, writing that is all or nothing."""

from dicomport.files.names import file_name
from dicomport.files.reading import Part10File, read_part10
from dicomport.files.writing import TEMPORARY_SUFFIX, Durability, PartialFile

__all__ = ["TEMPORARY_SUFFIX", "Durability", "Part10File", "PartialFile", "file_name", "read_part10"]
