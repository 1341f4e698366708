/* A disk that forgets what was not synced, for tests: preloaded into the gateway.
 *
 * Writes to files of POWER_CUT_FOLDER go to the file as ever, and the blocks that they touch are noted.
 * fsync and fdatasync copy the noted blocks into the file of the same name in POWER_CUT_DURABLE: that
 * folder has what a disk would have after a power cut. A file that was removed is gone there once the
 * folder itself has been synced. With POWER_CUT_MODE=off nothing is copied or removed, and all is said
 * to be well, as by a system without fsync.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 4096
#define BLOCKS (1 << 18)
#define FILES 8

struct file {
    char name[64];
    unsigned char dirty[BLOCKS / 8];
};

static struct file files[FILES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void fail(const char *what) {
    fprintf(stderr, "power_cut: %s\n", what);
    abort();
}

/* Where a descriptor leads, below the folder: "" for the folder itself; NULL: elsewhere. */
static const char *below(int fd, char *path, size_t room) {
    const char *folder = getenv("POWER_CUT_FOLDER");
    char link[64];
    if (!folder) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, room - 1);
    size_t prefix = strlen(folder);
    if (length < 0) return NULL;
    path[length] = 0;
    if (strncmp(path, folder, prefix) != 0) return NULL;
    if (path[prefix] == 0) return "";
    return path[prefix] == '/' ? path + prefix + 1 : NULL;
}

/* The file of the folder that a descriptor is open on; NULL: another one, or shared memory. */
static struct file *watched(int fd) {
    char path[PATH_MAX];
    const char *name = below(fd, path, sizeof path);
    if (!name || !name[0]) return NULL;
    if (strchr(name, '/') || strstr(name, "-shm") || strcmp(name, "lock") == 0) return NULL;
    if (strlen(name) >= sizeof files[0].name) fail("a name is too long");
    for (int at = 0; at < FILES; at++) {
        if (!files[at].name[0]) strcpy(files[at].name, name);
        if (strcmp(files[at].name, name) == 0) return &files[at];
    }
    fail("too many files");
    return NULL;
}

static void note(int fd, off_t from, ssize_t length) {
    if (length <= 0 || from < 0) return;
    pthread_mutex_lock(&lock);
    struct file *file = watched(fd);
    if (file) {
        if ((from + length) / BLOCK >= BLOCKS) fail("a file is too large");
        for (off_t block = from / BLOCK; block <= (from + length - 1) / BLOCK; block++)
            file->dirty[block / 8] |= 1 << (block % 8);
    }
    pthread_mutex_unlock(&lock);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    static ssize_t (*next)(int, const void *, size_t);
    if (!next) next = dlsym(RTLD_NEXT, "write");
    off_t from = lseek(fd, 0, SEEK_CUR);
    ssize_t written = next(fd, bytes, length);
    note(fd, from, written);
    return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t from) {
    static ssize_t (*next)(int, const void *, size_t, off_t);
    if (!next) next = dlsym(RTLD_NEXT, "pwrite");
    ssize_t written = next(fd, bytes, length, from);
    note(fd, from, written);
    return written;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t from) {
    return pwrite(fd, bytes, length, from);
}

static void make_durable(int fd, struct file *file) {
    char path[PATH_MAX], block[BLOCK];
    struct stat now;
    snprintf(path, sizeof path, "%s/%s", getenv("POWER_CUT_DURABLE"), file->name);
    int durable = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (durable < 0 || fstat(fd, &now) < 0) fail("the durable copy cannot be opened");
    static ssize_t (*put)(int, const void *, size_t, off_t);
    if (!put) put = dlsym(RTLD_NEXT, "pwrite");
    for (off_t at = 0; at * BLOCK < now.st_size; at++) {
        if (!(file->dirty[at / 8] & (1 << (at % 8)))) continue;
        ssize_t length = pread(fd, block, BLOCK, at * BLOCK);
        if (length < 0 || put(durable, block, length, at * BLOCK) != length) fail("a block cannot be copied");
    }
    memset(file->dirty, 0, sizeof file->dirty);
    if (ftruncate(durable, now.st_size) < 0) fail("the durable copy cannot be cut");
    close(durable);
}

static void forget_removed(void) {
    char path[PATH_MAX];
    DIR *durable = opendir(getenv("POWER_CUT_DURABLE"));
    if (!durable) fail("the durable folder cannot be read");
    for (struct dirent *entry; (entry = readdir(durable));) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", getenv("POWER_CUT_FOLDER"), entry->d_name);
        if (access(path, F_OK) == 0) continue;
        snprintf(path, sizeof path, "%s/%s", getenv("POWER_CUT_DURABLE"), entry->d_name);
        unlink(path);
    }
    closedir(durable);
}

static int sync_by(const char *call, int fd) {
    char path[PATH_MAX];
    pthread_mutex_lock(&lock);
    struct file *file = watched(fd);
    const char *name = below(fd, path, sizeof path);
    const char *mode = getenv("POWER_CUT_MODE");
    if (!mode || strcmp(mode, "off") != 0) {
        if (file) make_durable(fd, file);
        if (name && !name[0]) forget_removed();
    }
    pthread_mutex_unlock(&lock);
    if (name) return 0;
    int (*next)(int) = dlsym(RTLD_NEXT, call);
    return next(fd);
}

int fsync(int fd) {
    return sync_by("fsync", fd);
}

int fdatasync(int fd) {
    return sync_by("fdatasync", fd);
}
