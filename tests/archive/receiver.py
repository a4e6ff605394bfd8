"""A receiver in a separate process, for tests that kill it.

It waits for the archive's folder on standard input, prints its port, and serves until its input ends. After a tab may
follow the length of a segment of the journal.
"""

import asyncio
import sys

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
    root, _, segment = sys.stdin.readline().strip().partition("\t")
    if segment:
        sessions._SEGMENT_BYTES = int(segment)  # type: ignore[misc]
        indexer._SYNCED_RECORDS = 3  # type: ignore[misc]
    if root:
        archive = Archive(root, ArchiveOptions(min_free_bytes=0))
        asyncio.run(serve(archive))
        archive.close()


if __name__ == "__main__":
    main()
