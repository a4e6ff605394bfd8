"""DICOM files on disk (PS3.10): safe names, reading of headers, atomic and durable writing, locks, temporary files."""

from dicomport.files import system as system
from dicomport.files.blocks import (
    BLOCK_BYTES as BLOCK_BYTES,
    DEFAULT_MEMORY_BYTES as DEFAULT_MEMORY_BYTES,
    BlockWriter as BlockWriter,
    Disk as Disk,
    MemoryBudget as MemoryBudget,
    Threads as Threads,
    in_thread as in_thread,
)
from dicomport.files.folders import (
    Folders as Folders,
    HeldFolder as HeldFolder,
)
from dicomport.files.names import (
    LOST_AND_FOUND as LOST_AND_FOUND,
    MAX_COPIES as MAX_COPIES,
    file_name as file_name,
    numbered_name as numbered_name,
    shortened as shortened,
)
from dicomport.files.permissions import (
    FILE_MODE as FILE_MODE,
    Owner as Owner,
    create_folder as create_folder,
    give_own_folder as give_own_folder,
    give_to_owner_of as give_to_owner_of,
    open_as_owner as open_as_owner,
    open_file as open_file,
    other_owner_of as other_owner_of,
)
from dicomport.files.probing import (
    free_bytes as free_bytes,
    prepare as prepare,
    probe as probe,
)
from dicomport.files.reading import (
    FIRST_READ as FIRST_READ,
    BoundedReader as BoundedReader,
    Part10File as Part10File,
    find_file_meta as find_file_meta,
    open_regular as open_regular,
    read_part10 as read_part10,
    read_range as read_range,
)
from dicomport.files.small import (
    copy_file as copy_file,
    read_text as read_text,
    remove as remove,
    remove_folder as remove_folder,
    write_all as write_all,
    write_text as write_text,
)
from dicomport.files.syncing import SharedSync as SharedSync, SyncThreads as SyncThreads
from dicomport.files.temporary import (
    TEMPORARY_SUFFIX as TEMPORARY_SUFFIX,
    UNKNOWN_FILE_SYSTEM as UNKNOWN_FILE_SYSTEM,
    FileSystem as FileSystem,
    TemporaryFile as TemporaryFile,
    is_reserved as is_reserved,
)
from dicomport.files.writing import (
    Durability as Durability,
    PartialFile as PartialFile,
    created_folder as created_folder,
    make_folder as make_folder,
    make_own_folder as make_own_folder,
    sync as sync,
)
