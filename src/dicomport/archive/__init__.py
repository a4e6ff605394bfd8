"""The archive: files, an index of them, a quarantine, and functions that list, check, rebuild and export them."""

from dicomport.archive.checks import Check as Check, Checks as Checks, Policy as Policy
from dicomport.archive.commit.duplicates import Duplicates as Duplicates
from dicomport.archive.commit.recovery import Recovery as Recovery, recover as recover
from dicomport.archive.commit.sink import ArchiveOptions as ArchiveOptions
from dicomport.archive.database.queries import Filters as Filters
from dicomport.archive.database.reading import IndexReader as IndexReader
from dicomport.archive.database.sqlite import (
    BusyIndexError as BusyIndexError,
    DamagedIndexError as DamagedIndexError,
    IndexDatabaseError as IndexDatabaseError,
    LaterSchemaError as LaterSchemaError,
    SchemaError as SchemaError,
)
from dicomport.archive.entries import files_of as files_of, has_instances as has_instances
from dicomport.archive.export import ExportError as ExportError, export as export
from dicomport.archive.index import Index as Index
from dicomport.archive.notifications import CompleteStudy as CompleteStudy, HookError as HookError, Hooks as Hooks
from dicomport.archive.open import (
    Unindexed as Unindexed,
    count_unindexed as count_unindexed,
    open_archive as open_archive,
)
from dicomport.archive.path_template import DEFAULT_LAYOUT as DEFAULT_LAYOUT, Layout as Layout
from dicomport.archive.paths import Paths as Paths
from dicomport.archive.quarantine import (
    Quarantine as Quarantine,
    QuarantineEntry as QuarantineEntry,
    quarantined as quarantined,
)
from dicomport.archive.records import Record as Record
from dicomport.archive.reindexing import UnreadableFolderError as UnreadableFolderError, reindex as reindex
from dicomport.archive.scan.attributes import InstanceAttributes as InstanceAttributes
from dicomport.archive.storage import Archive as Archive
from dicomport.archive.verification.background import (
    BackgroundVerification as BackgroundVerification,
    QuietHours as QuietHours,
)
from dicomport.archive.verification.comparison import (
    Discrepancy as Discrepancy,
    DiscrepancyKind as DiscrepancyKind,
    verify as verify,
)
from dicomport.archive.verification.progress import verified_times as verified_times
from dicomport.archive.verification.rate import RateLimit as RateLimit
