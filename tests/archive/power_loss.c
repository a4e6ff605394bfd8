/* Keeps what a process has synced, to build the files that are left after a power loss (see power_loss.py).

   Loaded into each process by LD_PRELOAD, it stands before fsync and fdatasync of the C library, which Python's os module
   and SQLite both call. For each synced file it keeps in the folder POWER_LOSS_STABLE

     INODE.inode   a hard link to the file, so that its inode number is not used again
     INODE.data    its content at the time of the call
     INODE.time    its modification time, nanoseconds, after fsync only

   and for each synced folder INODE.dir, the names in it with their inode numbers, and whether they are folders; it is
   INODE.removed after the folder was removed. It opens none of the files: closing
   one would release SQLite's locks. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static void fail(const char *what) {
    perror(what);
    _exit(99);
}

static void path_of(char *path, size_t size, const struct stat *status, const char *suffix) {
    snprintf(path, size, "%s/%llu.%s", getenv("POWER_LOSS_STABLE"), (unsigned long long)status->st_ino, suffix);
}

static void keep_content(int file, const struct stat *status, const char *temporary) {
    char path[4096], source[64], block[65536];
    path_of(path, sizeof path, status, "inode");
    snprintf(source, sizeof source, "/proc/self/fd/%d", file);
    if (linkat(AT_FDCWD, source, AT_FDCWD, path, AT_SYMLINK_FOLLOW) != 0 && errno != EEXIST && errno != ENOENT)
        fail("linkat");
    int copy = open(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (copy < 0)
        fail("open");
    off_t at = 0;
    ssize_t got;
    while ((got = pread(file, block, sizeof block, at)) > 0) {
        if (write(copy, block, (size_t)got) != got)
            fail("write");
        at += got;
    }
    if (got < 0)
        fail("pread");
    close(copy);
    path_of(path, sizeof path, status, "data");
    if (rename(temporary, path) != 0)
        fail("rename");
}

static void keep_time(const struct stat *status, const char *temporary) {
    char path[4096];
    FILE *out = fopen(temporary, "w");
    if (out == NULL)
        fail("fopen");
    fprintf(out, "%lld", (long long)status->st_mtim.tv_sec * 1000000000LL + status->st_mtim.tv_nsec);
    fclose(out);
    path_of(path, sizeof path, status, "time");
    if (rename(temporary, path) != 0)
        fail("rename");
}

static void keep_names(int folder, const struct stat *status, const char *temporary) {
    char path[4096];
    int again = openat(folder, ".", O_RDONLY | O_DIRECTORY);
    DIR *names = again < 0 ? NULL : fdopendir(again);
    FILE *out = fopen(temporary, "w");
    if (names == NULL || out == NULL)
        fail("opendir");
    struct dirent *entry;
    while ((entry = readdir(names)) != NULL)
        fprintf(out, "%llu %d %s\n", (unsigned long long)entry->d_ino, entry->d_type == DT_DIR, entry->d_name);
    fclose(out);
    closedir(names);
    path_of(path, sizeof path, status, "dir");
    if (rename(temporary, path) != 0)
        fail("rename");
}

static int synced(int file, const char *call) {
    int (*original)(int) = (int (*)(int))dlsym(RTLD_NEXT, call);
    struct stat status;
    if (getenv("POWER_LOSS_STABLE") != NULL && fstat(file, &status) == 0) {
        char path[4096], temporary[4096];
        snprintf(path, sizeof path, "%s/lock", getenv("POWER_LOSS_STABLE"));
        snprintf(temporary, sizeof temporary, "%s/new", getenv("POWER_LOSS_STABLE"));
        int lock = open(path, O_RDWR | O_CREAT, 0600);
        if (lock < 0 || flock(lock, LOCK_EX) != 0)
            fail("lock");
        if (S_ISDIR(status.st_mode))
            keep_names(file, &status, temporary);
        else if (S_ISREG(status.st_mode)) {
            keep_content(file, &status, temporary);
            if (call[1] == 's')
                keep_time(&status, temporary);
        }
        close(lock);
    }
    return original(file);
}

int fsync(int file) { return synced(file, "fsync"); }

int fdatasync(int file) { return synced(file, "fdatasync"); }

/* Another folder may get the inode number of one that is removed. */
static int removed(int folder, const char *name, int flags) {
    int (*original)(int, const char *, int) = (int (*)(int, const char *, int))dlsym(RTLD_NEXT, "unlinkat");
    struct stat status;
    int known = fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0;
    int result = original(folder, name, flags);
    if (result == 0 && known && (flags & AT_REMOVEDIR) && getenv("POWER_LOSS_STABLE") != NULL) {
        char path[4096], removed[4096];
        path_of(path, sizeof path, &status, "dir");
        path_of(removed, sizeof removed, &status, "removed");
        rename(path, removed);
    }
    return result;
}

int unlinkat(int folder, const char *name, int flags) { return removed(folder, name, flags); }

int rmdir(const char *name) { return removed(AT_FDCWD, name, AT_REMOVEDIR); }
