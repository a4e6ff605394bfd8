"""DICOM files on disk (PS3.10): safe names, reading of headers, atomic and durable writing, locks, temporary files."""

from dicomport.files import blocks, names, reading, system, writing
from dicomport.files.blocks import *
from dicomport.files.names import *
from dicomport.files.reading import *
from dicomport.files.writing import *

__all__ = [
    "system",
]
__all__ += blocks.__all__
__all__ += names.__all__
__all__ += reading.__all__
__all__ += writing.__all__
