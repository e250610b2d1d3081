/* Lets one call of a program fail, as a broken disk would, or kills the program right there.

   Preloaded (LD_PRELOAD), it stands between a program and the C library. It counts the calls that
   concern files below one folder; the call that has the wanted number meets its fate.

     FAULT_BELOW   the folder, or a single file; without it nothing is done
     FAULT_CALL    kinds of calls, with commas between them (see `kinds`), or any
     FAULT_AT      number of the call, from 0; -1 for none
     FAULT_ERRNO   the error that it gives; 0: a write stops half way, and is no error
     FAULT_STICKY  1: all calls of these kinds from there on fail
     FAULT_KILL    1: SIGKILL instead of an error; a write is torn in the middle first
     FAULT_TRACE   a file that gets a line for each call that is counted: its kind and path

   A process that was forked may set these anew, and call `fault_arm`. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum kind { OPEN, WRITE, CLOSE, RENAME, MKDIR, SYNC, MMAP, REMOVE, KINDS };

static const char *const kinds[KINDS] = {"open", "write", "close",  "rename",
                                         "mkdir", "sync", "mmap", "remove"};

static struct {
    char below[PATH_MAX];
    bool wanted[KINDS];
    bool sticky, kill;
    long at;
    int error, trace;
    atomic_long count;
} fault = {.trace = -1};

/* ---- what is wished ------------------------------------------------------------------------- */

static long number(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtol(text, NULL, 10) : otherwise;
}

static bool is_listed(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += length)
        if ((at == list || at[-1] == ',') && (!at[length] || at[length] == ','))
            return true;
    return false;
}

__attribute__((constructor)) void fault_arm(void)
{
    const char *below = getenv("FAULT_BELOW"), *list = getenv("FAULT_CALL");
    const char *trace = getenv("FAULT_TRACE");
    snprintf(fault.below, sizeof fault.below, "%s", below ? below : "");
    for (int kind = 0; kind < KINDS; kind++)
        fault.wanted[kind] = list && (is_listed(list, "any") || is_listed(list, kinds[kind]));
    fault.at = number("FAULT_AT", -1);
    fault.error = (int)number("FAULT_ERRNO", EIO);
    fault.sticky = number("FAULT_STICKY", 0);
    fault.kill = number("FAULT_KILL", 0);
    atomic_store(&fault.count, 0);
    if (trace && *trace) {
        int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
        fault.trace = (int)syscall(SYS_openat, AT_FDCWD, trace, flags, 0666);
    }
}

/* ---- which call it is ----------------------------------------------------------------------- */

static bool is_below(const char *path)
{
    size_t length = strlen(fault.below);
    return length && !strncmp(path, fault.below, length) && (!path[length] || path[length] == '/');
}

/* The path of an open file. */
static bool path_of(int file, char *path)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length > 0 ? length : 0] = 0;
    return length > 0;
}

static void absolute(int folder, const char *name, char *path)
{
    char base[PATH_MAX] = "";
    if (name[0] == '/')
        snprintf(path, PATH_MAX, "%s", name);
    else if (folder == AT_FDCWD ? getcwd(base, sizeof base) != NULL : path_of(folder, base))
        snprintf(path, PATH_MAX, "%.2000s/%.2000s", base, name);
    else
        path[0] = 0;
}

/* Count a call; whether this is the one. */
static bool strikes(enum kind kind, const char *path)
{
    if (!fault.wanted[kind] || !is_below(path))
        return false;
    long count = atomic_fetch_add(&fault.count, 1);
    if (fault.trace >= 0) {
        char line[PATH_MAX + 64];
        int length = snprintf(line, sizeof line, "%s %s\n", kinds[kind], path);
        syscall(SYS_write, fault.trace, line, (size_t)length);
    }
    return fault.at >= 0 && (count == fault.at || (fault.sticky && count > fault.at));
}

/* Die, or give the error. */
static int meet_fate(void)
{
    if (fault.kill) {
        kill(getpid(), SIGKILL);
        pause();
    }
    errno = fault.error;
    return -1;
}

static bool strikes_path(enum kind kind, int folder, const char *name)
{
    char path[PATH_MAX];
    if (!fault.below[0] || !fault.wanted[kind] || !name)
        return false;
    absolute(folder, name, path);
    return strikes(kind, path);
}

static bool strikes_file(enum kind kind, int file)
{
    char path[PATH_MAX];
    int before = errno;
    bool struck = fault.below[0] && fault.wanted[kind] && path_of(file, path) && strikes(kind, path);
    errno = before;
    return struck;
}

/* ---- the calls ------------------------------------------------------------------------------ */

/* The C library's own function. */
#define REAL(name)                                    \
    static __typeof__(&name) real;                    \
    if (!real)                                        \
        *(void **)&real = dlsym(RTLD_NEXT, #name);

static mode_t mode_of(int flags, va_list rest)
{
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

#define OPENING(name)                                     \
    int name(const char *path, int flags, ...)            \
    {                                                     \
        REAL(name)                                        \
        va_list rest;                                     \
        va_start(rest, flags);                            \
        mode_t mode = mode_of(flags, rest);               \
        va_end(rest);                                     \
        if (strikes_path(OPEN, AT_FDCWD, path))           \
            return meet_fate();                           \
        return real(path, flags, mode);                   \
    }

#define OPENING_AT(name)                                  \
    int name(int folder, const char *path, int flags, ...) \
    {                                                     \
        REAL(name)                                        \
        va_list rest;                                     \
        va_start(rest, flags);                            \
        mode_t mode = mode_of(flags, rest);               \
        va_end(rest);                                     \
        if (strikes_path(OPEN, folder, path))             \
            return meet_fate();                           \
        return real(folder, path, flags, mode);           \
    }

#define CREATING(name)                                    \
    int name(const char *path, mode_t mode)               \
    {                                                     \
        REAL(name)                                        \
        if (strikes_path(OPEN, AT_FDCWD, path))           \
            return meet_fate();                           \
        return real(path, mode);                          \
    }

#define STREAMING(name)                                   \
    FILE *name(const char *path, const char *mode)        \
    {                                                     \
        REAL(name)                                        \
        char whole[PATH_MAX];                             \
        absolute(AT_FDCWD, path, whole);                  \
        if (mode[0] == 'w' && is_below(whole))            \
            return stream(path, mode);                    \
        return real(path, mode);                          \
    }

/* The C library's streams write by calls of its own, which nobody sees; this one's are ours. */
static ssize_t stream_write(void *cookie, const char *data, size_t size)
{
    ssize_t done = write((int)(intptr_t)cookie, data, size);
    return done < 0 ? 0 : done;
}

static int stream_close(void *cookie)
{
    return close((int)(intptr_t)cookie);
}

static FILE *stream(const char *path, const char *mode)
{
    cookie_io_functions_t calls = {.write = stream_write, .close = stream_close};
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (file < 0)
        return NULL;
    FILE *made = fopencookie((void *)(intptr_t)file, mode, calls);
    if (made)
        setvbuf(made, NULL, _IOFBF, 4096);
    return made;
}

OPENING(open)
OPENING(open64)
OPENING_AT(openat)
OPENING_AT(openat64)
CREATING(creat)
CREATING(creat64)
STREAMING(fopen)
STREAMING(fopen64)

/* A write that is struck: torn, and the process killed; stopped half way; or refused. */
#define STRUCK(half)                        \
    do {                                    \
        if (!fault.kill && fault.error)     \
            return meet_fate();             \
        ssize_t done = half;                \
        return fault.kill ? meet_fate() : done; \
    } while (0)

ssize_t write(int file, const void *data, size_t size)
{
    REAL(write)
    if (!strikes_file(WRITE, file))
        return real(file, data, size);
    STRUCK(real(file, data, size - size / 2));
}

#define WRITING_AT(name, place)                                          \
    ssize_t name(int file, const void *data, size_t size, place offset)  \
    {                                                                    \
        REAL(name)                                                       \
        if (!strikes_file(WRITE, file))                                  \
            return real(file, data, size, offset);                       \
        STRUCK(real(file, data, size - size / 2, offset));              \
    }

WRITING_AT(pwrite, off_t)
WRITING_AT(pwrite64, off64_t)

int close(int file)
{
    REAL(close)
    if (!strikes_file(CLOSE, file))
        return real(file);
    if (!fault.kill)
        real(file);
    return meet_fate();
}

int rename(const char *from, const char *to)
{
    REAL(rename)
    return strikes_path(RENAME, AT_FDCWD, from) ? meet_fate() : real(from, to);
}

int renameat(int folder, const char *from, int other, const char *to)
{
    REAL(renameat)
    return strikes_path(RENAME, folder, from) ? meet_fate() : real(folder, from, other, to);
}

int renameat2(int folder, const char *from, int other, const char *to, unsigned flags)
{
    REAL(renameat2)
    return strikes_path(RENAME, folder, from) ? meet_fate() : real(folder, from, other, to, flags);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir)
    return strikes_path(MKDIR, AT_FDCWD, path) ? meet_fate() : real(path, mode);
}

int mkdirat(int folder, const char *path, mode_t mode)
{
    REAL(mkdirat)
    return strikes_path(MKDIR, folder, path) ? meet_fate() : real(folder, path, mode);
}

#define SYNCING(name)                                                \
    int name(int file)                                               \
    {                                                                \
        REAL(name)                                                   \
        return strikes_file(SYNC, file) ? meet_fate() : real(file);  \
    }

SYNCING(fsync)
SYNCING(fdatasync)
SYNCING(syncfs)

#define MAPPING(name, place)                                                             \
    void *name(void *at, size_t size, int access, int flags, int file, place offset)     \
    {                                                                                    \
        REAL(name)                                                                       \
        if (file < 0 || !strikes_file(MMAP, file))                                       \
            return real(at, size, access, flags, file, offset);                          \
        meet_fate();                                                                     \
        return MAP_FAILED;                                                               \
    }

MAPPING(mmap, off_t)
MAPPING(mmap64, off64_t)

int unlink(const char *path)
{
    REAL(unlink)
    return strikes_path(REMOVE, AT_FDCWD, path) ? meet_fate() : real(path);
}

int unlinkat(int folder, const char *path, int flags)
{
    REAL(unlinkat)
    return strikes_path(REMOVE, folder, path) ? meet_fate() : real(folder, path, flags);
}

int rmdir(const char *path)
{
    REAL(rmdir)
    return strikes_path(REMOVE, AT_FDCWD, path) ? meet_fate() : real(path);
}
