/* Preloaded into the gateway: writes and syncs of files below SHIM_FOLDER fail with SHIM_ERRNO, from the
 * SHIM_FROM-th call on, SHIM_COUNT times. SHIM_CALLS is "sync", "write" or "any". What fails is told on
 * standard error. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;

static int fails(const char *kind, int file) {
    int before = errno, fail = 0;
    const char *folder = getenv("SHIM_FOLDER"), *kinds = getenv("SHIM_CALLS");
    char link[64], path[4096];
    if (!folder || !kinds || (strcmp(kinds, "any") && strcmp(kinds, kind)))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length > 0) {
        path[length] = 0;
        if (!strncmp(path, folder, strlen(folder))) {
            long number = atomic_fetch_add(&calls, 1) + 1, from = atol(getenv("SHIM_FROM"));
            fail = number >= from && number < from + atol(getenv("SHIM_COUNT"));
            if (fail)
                dprintf(2, "shim: %s %ld of %s fails\n", kind, number, path);
        }
    }
    errno = fail ? atoi(getenv("SHIM_ERRNO")) : before;
    return fail;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int file, const void *bytes, size_t count) {
    return fails("write", file) ? -1 : REAL(write)(file, bytes, count);
}
ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) {
    return fails("write", file) ? -1 : REAL(pwrite)(file, bytes, count, at);
}
ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at) {
    return fails("write", file) ? -1 : REAL(pwrite64)(file, bytes, count, at);
}
int ftruncate(int file, off_t length) {
    return fails("write", file) ? -1 : REAL(ftruncate)(file, length);
}
int ftruncate64(int file, off64_t length) {
    return fails("write", file) ? -1 : REAL(ftruncate64)(file, length);
}
int fsync(int file) {
    return fails("sync", file) ? -1 : REAL(fsync)(file);
}
int fdatasync(int file) {
    return fails("sync", file) ? -1 : REAL(fdatasync)(file);
}
