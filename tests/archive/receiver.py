"""A receiver in a separate process, for tests that kill it.

It waits for the archive's folder on standard input, prints its port, and serves until its input ends.
"""

import asyncio
import sys

from dicomport import StorageSCP
from dicomport.archive import Archive, ArchiveOptions


async def serve(archive: Archive) -> None:
    """Serve until the input ends."""
    async with StorageSCP(archive, port=0) as scp:
        sys.stdout.write(f"{scp.port}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)


def main() -> None:
    """Wait for the folder, and serve."""
    root = sys.stdin.readline().strip()
    if root:
        archive = Archive(root, ArchiveOptions(min_free_bytes=0))
        asyncio.run(serve(archive))
        archive.close()


if __name__ == "__main__":
    main()
