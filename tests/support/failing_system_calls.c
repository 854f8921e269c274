/* System calls that fail: preloaded into a process, it counts the calls that concern one folder and lets the k-th fail.

   A call concerns the folder if its path lies in it, or its descriptor's. Nothing is counted before `faults_begin` and
   after `faults_end`; both are called by Python through ctypes (tests/support/failing_system_calls.py). */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITES = 1, INTERRUPTIBLE = 2 };

static char folder[4096];
static atomic_int armed, count, failing, failed_with;
static int error_number, goes_on;
static const char *failed_call = "";

void faults_begin(const char *path, int k, int error, int on) {
    snprintf(folder, sizeof folder, "%s", path);
    failing = k;
    error_number = error;
    goes_on = on;
    failed_with = 0;
    failed_call = "";
    count = 0;
    armed = 1;
}

int faults_end(void) {
    armed = 0;
    return count;
}

const char *faults_call(void) { return failed_call; }

static int in_folder(const char *path) { return path && strncmp(path, folder, strlen(folder)) == 0; }

static int of_folder(int descriptor) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return in_folder(path);
}

/* The error that this call ends with, or 0. A disk that is full stays full, for what takes room there. */
static int fault(const char *name, int kind) {
    int number = ++count;
    if (!failing || number < failing || (number > failing && !(goes_on && failed_with && (kind & WRITES)))) return 0;
    int error = error_number;
    if (error == ENOSPC && !(kind & WRITES)) error = EIO;
    if (error == EINTR && !(kind & INTERRUPTIBLE)) error = EIO;
    if (number == failing) failed_call = name;
    failed_with = error;
    return error;
}

#define REAL(type, name, ...)                                                                                          \
    static type (*real)(__VA_ARGS__);                                                                                  \
    if (!real) real = dlsym(RTLD_NEXT, name)

#define FAIL(concerned, name, kind)                                                                                    \
    do {                                                                                                               \
        int saved = errno, error = armed && (concerned) ? fault(name, kind) : 0;                                       \
        errno = saved;                                                                                                 \
        if (error) return errno = error, -1;                                                                           \
    } while (0)

#define MODE(flags)                                                                                                    \
    mode_t mode = 0;                                                                                                   \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {                                                                           \
        va_list list;                                                                                                  \
        va_start(list, flags);                                                                                         \
        mode = va_arg(list, mode_t);                                                                                   \
        va_end(list);                                                                                                  \
    }

#define OPEN(symbol)                                                                                                   \
    int symbol(const char *path, int flags, ...) {                                                                     \
        REAL(int, #symbol, const char *, int, ...);                                                                    \
        MODE(flags)                                                                                                    \
        FAIL(in_folder(path), "open", INTERRUPTIBLE | (flags & O_CREAT ? WRITES : 0));                                 \
        return real(path, flags, mode);                                                                                \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(symbol)                                                                                                 \
    int symbol(int at, const char *path, int flags, ...) {                                                             \
        REAL(int, #symbol, int, const char *, int, ...);                                                               \
        MODE(flags)                                                                                                    \
        FAIL(in_folder(path), "open", INTERRUPTIBLE | (flags & O_CREAT ? WRITES : 0));                                 \
        return real(at, path, flags, mode);                                                                            \
    }
OPENAT(openat)
OPENAT(openat64)

#define TRANSFER(symbol, name, kind, parameters, types, arguments)                                                     \
    ssize_t symbol parameters {                                                                                        \
        REAL(ssize_t, #symbol, types);                                                                                 \
        FAIL(of_folder(descriptor), name, (kind) | INTERRUPTIBLE);                                                     \
        return real arguments;                                                                                         \
    }
#define TYPES(...) __VA_ARGS__
TRANSFER(read, "read", 0, (int descriptor, void *to, size_t n), TYPES(int, void *, size_t), (descriptor, to, n))
TRANSFER(pread, "read", 0, (int descriptor, void *to, size_t n, off_t at), TYPES(int, void *, size_t, off_t),
         (descriptor, to, n, at))
TRANSFER(pread64, "read", 0, (int descriptor, void *to, size_t n, off64_t at), TYPES(int, void *, size_t, off64_t),
         (descriptor, to, n, at))
TRANSFER(preadv, "read", 0, (int descriptor, const struct iovec *to, int n, off_t at),
         TYPES(int, const struct iovec *, int, off_t), (descriptor, to, n, at))
TRANSFER(preadv64, "read", 0, (int descriptor, const struct iovec *to, int n, off64_t at),
         TYPES(int, const struct iovec *, int, off64_t), (descriptor, to, n, at))
TRANSFER(preadv64v2, "read", 0, (int descriptor, const struct iovec *to, int n, off64_t at, int flags),
         TYPES(int, const struct iovec *, int, off64_t, int), (descriptor, to, n, at, flags))
TRANSFER(write, "write", WRITES, (int descriptor, const void *from, size_t n), TYPES(int, const void *, size_t),
         (descriptor, from, n))
TRANSFER(pwrite, "write", WRITES, (int descriptor, const void *from, size_t n, off_t at),
         TYPES(int, const void *, size_t, off_t), (descriptor, from, n, at))
TRANSFER(pwrite64, "write", WRITES, (int descriptor, const void *from, size_t n, off64_t at),
         TYPES(int, const void *, size_t, off64_t), (descriptor, from, n, at))
TRANSFER(pwritev, "write", WRITES, (int descriptor, const struct iovec *from, int n, off_t at),
         TYPES(int, const struct iovec *, int, off_t), (descriptor, from, n, at))
TRANSFER(pwritev64, "write", WRITES, (int descriptor, const struct iovec *from, int n, off64_t at),
         TYPES(int, const struct iovec *, int, off64_t), (descriptor, from, n, at))
TRANSFER(pwritev64v2, "write", WRITES, (int descriptor, const struct iovec *from, int n, off64_t at, int flags),
         TYPES(int, const struct iovec *, int, off64_t, int), (descriptor, from, n, at, flags))

#define OF_FILE(symbol, name, kind, parameters, types, arguments)                                                      \
    int symbol parameters {                                                                                            \
        REAL(int, #symbol, types);                                                                                     \
        FAIL(of_folder(descriptor), name, kind);                                                                       \
        return real arguments;                                                                                         \
    }
OF_FILE(fsync, "fsync", INTERRUPTIBLE, (int descriptor), TYPES(int), (descriptor))
OF_FILE(fdatasync, "fsync", INTERRUPTIBLE, (int descriptor), TYPES(int), (descriptor))
OF_FILE(ftruncate, "truncate", WRITES | INTERRUPTIBLE, (int descriptor, off_t n), TYPES(int, off_t), (descriptor, n))
OF_FILE(ftruncate64, "truncate", WRITES | INTERRUPTIBLE, (int descriptor, off64_t n), TYPES(int, off64_t),
        (descriptor, n))

/* These return the error, and leave errno alone. */
#define RESERVE(symbol, offset)                                                                                        \
    int symbol(int descriptor, offset at, offset n) {                                                                  \
        REAL(int, #symbol, int, offset, offset);                                                                       \
        int saved = errno, error = armed && of_folder(descriptor) ? fault("reserve", WRITES | INTERRUPTIBLE) : 0;      \
        errno = saved;                                                                                                 \
        return error ? error : real(descriptor, at, n);                                                                \
    }
RESERVE(posix_fallocate, off_t)
RESERVE(posix_fallocate64, off64_t)

/* Of a file that has been written, whose last bytes may be lost. The descriptor is gone all the same, as on Linux. */
int close(int descriptor) {
    REAL(int, "close", int);
    int saved = errno, written = armed && (fcntl(descriptor, F_GETFL) & O_ACCMODE) != O_RDONLY;
    int error = written && of_folder(descriptor) ? fault("close", 0) : 0;
    errno = saved;
    int done = real(descriptor);
    return error ? (errno = error, -1) : done;
}

#define OF_PATH(symbol, name, kind, concerned, parameters, types, arguments)                                           \
    int symbol parameters {                                                                                            \
        REAL(int, #symbol, types);                                                                                     \
        FAIL(in_folder(concerned), name, kind);                                                                        \
        return real arguments;                                                                                         \
    }
OF_PATH(rename, "rename", WRITES, to, (const char *from, const char *to), TYPES(const char *, const char *), (from, to))
OF_PATH(unlink, "unlink", 0, path, (const char *path), TYPES(const char *), (path))
OF_PATH(unlinkat, "unlink", 0, path, (int at, const char *path, int flags), TYPES(int, const char *, int),
        (at, path, flags))
OF_PATH(rmdir, "unlink", 0, path, (const char *path), TYPES(const char *), (path))
OF_PATH(mkdir, "mkdir", WRITES, path, (const char *path, mode_t mode), TYPES(const char *, mode_t), (path, mode))
