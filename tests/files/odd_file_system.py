"""A FUSE file system that lacks calls, as network file systems do, or that forgets what was never synced.

`python odd_file_system.py KIND[,KIND...] ROOT MOUNT` shows the folder ROOT at MOUNT, prints "ready", and unmounts on
SIGTERM. It needs root, /dev/fuse, fusepy and libfuse2; `tests.files.mounts` starts it for a test.

Theory of operation of `forgetful`: ROOT is the state that processes see. Beside it, the folder ROOT.synced has one hard
link for each file that ever existed, so that no inode number is used again, and a copy of the content of each file
that was synced. `fsync` of a file copies its content; `fsync` of a folder remembers the names in it. Nothing else is
durable: not the name of a synced file, nor the content behind a synced name. At the end, ROOT is
replaced by the durable names and contents: the state after a power failure. Files keep their inode numbers, as they do
on a real disk.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from fuse import FUSE, FuseOSError, Operations

KINDS: Final = {
    "plain": "keeps an unlinked open file as a hidden file in its folder, as NFS does",
    "hard": "removes an unlinked open file, as local file systems do",
    "nolink": "link: EOPNOTSUPP, as CIFS and exFAT",
    "linkEPERM": "link: EPERM, as vfat",
    "linkEIO": "link: EIO",
    "linkEINVAL": "link: EINVAL",
    "nodirsync": "fsync of a folder: EINVAL",
    "nofsync": "fsync of a file: EINVAL",
    "noutime": "utime: EPERM",
    "utimeEIO": "utime: EIO",
    "nochmod": "chmod: EPERM",
    "chmodEIO": "chmod: EIO",
    "seconds": "modification times are in whole seconds",
    "newinodes": "inode numbers change with each mount",
    "forgetful": "at the end, only what was synced is left",
}

_LINK_ERRORS: Final = {
    "nolink": errno.EOPNOTSUPP,
    "linkEPERM": errno.EPERM,
    "linkEIO": errno.EIO,
    "linkEINVAL": errno.EINVAL,
}
_STATUS: Final = ("st_gid", "st_mode", "st_nlink", "st_size", "st_uid", "st_ino", "st_dev", "st_blocks")
_STATVFS: Final = (
    *("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_favail"),
    *("f_ffree", "f_files", "f_flag", "f_frsize", "f_namemax"),
)
_SECOND: Final = 1_000_000_000


class Synced:
    """The durable state of a `forgetful` file system."""

    def __init__(self, root: Path) -> None:
        """Record the present content of the folder as durable."""
        self._root = root
        self._store = root.with_name(f"{root.name}.synced")
        for name in ("anchors", "contents", "removed"):
            (self._store / name).mkdir(parents=True)
        self._names: dict[int, dict[str, int]] = {}
        """Names in each folder, and their inodes; by the folder's inode."""
        self._folders: set[int] = set()
        for folder, _, files in os.walk(root):
            for name in files:
                self.anchor(os.path.join(folder, name))
                self.sync_file(os.path.join(folder, name))
            self.sync_folder(folder)

    def anchor(self, path: str) -> None:
        """Keep the inode of a new file."""
        os.link(path, self._store / "anchors" / str(os.lstat(path).st_ino))

    def sync_file(self, path: str) -> None:
        """Keep the content of a file."""
        inode = os.stat(path).st_ino
        shutil.copyfile(path, self._store / "contents" / str(inode))
        shutil.copystat(path, self._store / "contents" / str(inode))

    def sync_folder(self, path: str) -> None:
        """Keep the names in a folder."""
        with os.scandir(path) as entries:
            found = list(entries)
        self._names[os.stat(path).st_ino] = {entry.name: entry.inode() for entry in found}
        self._folders.update(entry.inode() for entry in found if entry.is_dir(follow_symlinks=False))

    def remove_folder(self, path: str) -> None:
        """Remove an empty folder, and keep its inode."""
        if os.listdir(path):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        os.rename(path, self._store / "removed" / str(os.stat(path).st_ino))

    def restore(self) -> None:
        """Replace the folder by the durable names and contents."""
        inode = self._root.stat().st_ino
        self._root.rename(self._store / "before")
        self._restore(inode, self._root)
        shutil.rmtree(self._store)

    def _restore(self, inode: int, folder: Path) -> None:
        folder.mkdir()
        for name, child in self._names.get(inode, {}).items():
            if child in self._folders:
                self._restore(child, folder / name)
            else:
                self._restore_file(child, folder / name)

    def _restore_file(self, inode: int, path: Path) -> None:
        os.link(self._store / "anchors" / str(inode), path)
        synced = self._store / "contents" / str(inode)
        if synced.exists():
            shutil.copyfile(synced, path)
            shutil.copystat(synced, path)
        else:
            os.truncate(path, 0)


class OddFileSystem(Operations):  # type: ignore[misc]  # fusepy has no types
    """The folder `root`, with the oddities of `kinds`."""

    use_ns = True

    def __init__(self, root: str, kinds: frozenset[str]) -> None:
        self._root = root
        self._kinds = kinds
        self._synced = Synced(Path(root)) if "forgetful" in kinds else None

    def _path(self, path: str) -> str:
        return self._root + path

    def _refuse(self, kind: str, number: int) -> None:
        if kind in self._kinds:
            raise FuseOSError(number)

    def init(self, path: str) -> None:
        """Report that the mount is complete."""
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    def destroy(self, path: str) -> None:
        """Lose power, if the file system is forgetful."""
        if self._synced is not None:
            self._synced.restore()

    def access(self, path: str, mode: int) -> None:
        if not os.access(self._path(path), mode):
            raise FuseOSError(errno.EACCES)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        status = os.lstat(self._path(path))
        found: dict[str, int] = {name: getattr(status, name) for name in _STATUS}
        for name in ("st_atime", "st_ctime", "st_mtime"):
            found[name] = getattr(status, f"{name}_ns")
        if "seconds" in self._kinds:
            found["st_mtime"] = found["st_mtime"] // _SECOND * _SECOND
        if self._synced is not None and not stat.S_ISDIR(status.st_mode):
            found["st_nlink"] -= 1
        return found

    def readdir(self, path: str, fh: int) -> Iterator[str]:
        yield from (".", "..", *os.listdir(self._path(path)))

    def readlink(self, path: str) -> str:
        return os.readlink(self._path(path))

    def symlink(self, target: str, source: str) -> None:
        os.symlink(source, self._path(target))

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self._path(path), mode)

    def rmdir(self, path: str) -> None:
        if self._synced is None:
            os.rmdir(self._path(path))
        else:
            self._synced.remove_folder(self._path(path))

    def unlink(self, path: str) -> None:
        os.unlink(self._path(path))

    def rename(self, old: str, new: str) -> None:
        os.rename(self._path(old), self._path(new))

    def link(self, target: str, source: str) -> None:
        for kind, number in _LINK_ERRORS.items():
            self._refuse(kind, number)
        os.link(self._path(source), self._path(target))

    def chmod(self, path: str, mode: int) -> None:
        self._refuse("nochmod", errno.EPERM)
        self._refuse("chmodEIO", errno.EIO)
        os.chmod(self._path(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.chown(self._path(path), uid, gid)

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        self._refuse("noutime", errno.EPERM)
        self._refuse("utimeEIO", errno.EIO)
        if times is None:
            os.utime(self._path(path))
        else:
            os.utime(self._path(path), ns=times)

    def open(self, path: str, flags: int) -> int:
        # The kernel computes the position of appended bytes. A file that was opened for writing is read by `fsync`.
        return os.open(self._path(path), flags & ~os.O_APPEND)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        descriptor = os.open(self._path(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        if self._synced is not None:
            self._synced.anchor(self._path(path))
        return descriptor

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        os.truncate(self._path(path), length)

    def flush(self, path: str, fh: int) -> None:
        pass

    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        self._refuse("nofsync", errno.EINVAL)
        if self._synced is not None:
            self._synced.sync_file(f"/proc/self/fd/{fh}")

    def fsyncdir(self, path: str, datasync: int, fh: int) -> None:
        self._refuse("nodirsync", errno.EINVAL)
        if self._synced is not None:
            self._synced.sync_folder(self._path(path))

    def statfs(self, path: str) -> dict[str, int]:
        status = os.statvfs(self._path(path))
        return {name: getattr(status, name) for name in _STATVFS}

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        raise FuseOSError(errno.ENOTSUP)


def main() -> None:
    """Mount the file system until SIGTERM."""
    kinds = frozenset(sys.argv[1].split(","))
    if unknown := kinds - KINDS.keys():
        sys.exit(f"unknown kind {', '.join(sorted(unknown))}; expected one of {', '.join(KINDS)}")
    options: dict[str, Any] = {"use_ino": "newinodes" not in kinds}
    if kinds & {"hard", "forgetful"}:
        options["hard_remove"] = True
    os.umask(0)
    FUSE(
        OddFileSystem(os.path.realpath(sys.argv[2]), kinds),
        sys.argv[3],
        foreground=True,
        nothreads=True,
        allow_other=True,
        default_permissions=True,
        **options,
    )


if __name__ == "__main__":
    main()
