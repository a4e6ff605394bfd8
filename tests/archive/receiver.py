"""A receiver in a separate process, for tests that kill it.

It waits for the archive's folder on standard input, prints its port, and serves until its input ends. After tabs may
follow the length of a segment of the journal and the maximum number of entries in quarantine, each optional.
"""

import asyncio
import sys
from dataclasses import replace

from dicomport import StorageSCP
from dicomport.archive import Archive, ArchiveOptions
from dicomport.archive.commit import indexer, sessions


async def serve(archive: Archive) -> None:
    """Serve until the input ends."""
    async with StorageSCP(archive, port=0) as scp:
        sys.stdout.write(f"{scp.port}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)


def main() -> None:
    """Wait for the folder, and serve."""
    fields: list[str] = [*sys.stdin.readline().strip("\n").split("\t"), "", ""]
    root, segment, entries = fields[:3]
    if segment:
        sessions._SEGMENT_BYTES = int(segment)  # type: ignore[misc]
        indexer._SYNCED_RECORDS = 3  # type: ignore[misc]
    if root:
        options = ArchiveOptions(min_free_bytes=0)
        if entries:
            options = replace(options, quarantine_entries=int(entries))
        archive = Archive(root, options)
        asyncio.run(serve(archive))
        archive.close()


if __name__ == "__main__":
    main()
