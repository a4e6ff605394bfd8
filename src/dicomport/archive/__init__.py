"""The archive: files, an index of them, a quarantine, and functions that list, check, rebuild and export them."""

from dicomport.archive.checks import Check, Checks, Policy
from dicomport.archive.commit.committer import Duplicates
from dicomport.archive.commit.recovery import recover
from dicomport.archive.commit.sink import ArchiveOptions
from dicomport.archive.export import export
from dicomport.archive.index import Filters, Index, SchemaError
from dicomport.archive.notifications import CompleteStudy, HookError, Hooks
from dicomport.archive.open import open_archive
from dicomport.archive.path_template import DEFAULT_LAYOUT, Layout
from dicomport.archive.paths import Paths
from dicomport.archive.quarantine import Quarantine, QuarantineEntry, quarantined
from dicomport.archive.records import Record
from dicomport.archive.scan.scanner import InstanceFacts, Scan, Scanner
from dicomport.archive.storage import Archive
from dicomport.archive.verify import Discrepancy, DiscrepancyKind, files_of, reindex, verify

__all__ = [
    "DEFAULT_LAYOUT",
    "Archive",
    "ArchiveOptions",
    "Check",
    "Checks",
    "CompleteStudy",
    "Discrepancy",
    "DiscrepancyKind",
    "Duplicates",
    "Filters",
    "HookError",
    "Hooks",
    "Index",
    "InstanceFacts",
    "Layout",
    "Paths",
    "Policy",
    "Quarantine",
    "QuarantineEntry",
    "Record",
    "Scan",
    "Scanner",
    "SchemaError",
    "export",
    "files_of",
    "open_archive",
    "quarantined",
    "recover",
    "reindex",
    "verify",
]
