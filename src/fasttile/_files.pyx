"""Write, read and sync small files in one call each, so the GIL is taken once, not several times.

A cut writes thousands of small files. Each call of Python that reads or writes releases the GIL,
and taking it again among busy threads costs more than most of these calls do.
"""
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE /* for syncfs */
    #endif
    #include <errno.h>
    #include <fcntl.h>
    #if defined(_WIN32)
    #include <io.h>
    #define FILE_SEEK _lseeki64
    #define FILE_READ _read
    static int fasttile_write(int folder, const char *path, const char *data, Py_ssize_t length,
                              int replace)
    { (void)folder; (void)path; (void)data; (void)length; (void)replace; return ENOSYS; }
    #define fasttile_sync(file) ENOSYS
    #else
    #include <unistd.h>
    #define FILE_SEEK lseek
    #define FILE_READ read
    #if defined(__linux__)
    static int fasttile_sync(int file) { return syncfs(file) == 0 ? 0 : errno; }
    #else
    static int fasttile_sync(int file) { (void)file; sync(); return 0; }
    #endif
    static int fasttile_write(int folder, const char *path, const char *data, Py_ssize_t length,
                              int replace)
    {
        int failed = 0, file, flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
        for (;;) {
            file = openat(folder, path, flags, 0666);
            if (file >= 0)
                break;
            /* Removed, not truncated: it may be a link to a file of the user's. */
            if (errno == EEXIST && replace && (unlinkat(folder, path, 0) == 0 || errno == ENOENT))
                continue;
            if (errno != EINTR)
                return errno;
        }
        while (length > 0 && !failed) {
            /* A write may stop short, most often where the disk becomes full: the next says why. */
            ssize_t done = write(file, data, (size_t)length);
            if (done > 0) {
                data += done;
                length -= done;
            } else if (done == 0) {
                failed = EIO;
            } else if (errno != EINTR) {
                failed = errno;
            }
        }
        /* A file that was interrupted while it was closed is closed on Linux. */
        if (close(file) != 0 && !failed && errno != EINTR)
            failed = errno;
        return failed;
    }
    #endif
    """
    long long FILE_SEEK(int, long long, int)
    Py_ssize_t FILE_READ(int, void *, size_t)
    int fasttile_write(int, const char *, const char *, Py_ssize_t, int) nogil
    int fasttile_sync(int) nogil


def read_back(int descriptor):
    """What was written to a file in memory since the last call; the file is rewound.

    The GIL is kept, for the file lies in memory.
    """
    cdef long long length = FILE_SEEK(descriptor, 0, 1)
    cdef Py_ssize_t done = 0, step
    if length < 0 or FILE_SEEK(descriptor, 0, 0) != 0:
        raise OSError("the spool file cannot be rewound")
    data = PyBytes_FromStringAndSize(NULL, length)
    while done < length:
        step = FILE_READ(descriptor, PyBytes_AsString(data) + done, <size_t>(length - done))
        if step <= 0:
            raise OSError("the spool file cannot be read back")
        done += step
    if FILE_SEEK(descriptor, 0, 0) != 0:
        raise OSError("the spool file cannot be rewound")
    return data


def write(int folder, bytes path, bytes data, bint replace):
    """Write a new file below an open folder to the last byte: 0, or the errno of what failed.

    It must not exist yet, or is removed first. Not for Windows, where it gives ENOSYS.
    """
    cdef const char *name = PyBytes_AsString(path)
    cdef const char *content = PyBytes_AsString(data)
    cdef Py_ssize_t length = len(data)
    cdef int failed
    with nogil:
        failed = fasttile_write(folder, name, content, length, replace)
    return failed


def sync(int descriptor):
    """Wait until all that was written to a file's file system is on the disk: 0, or the errno.

    Where the system cannot do it for one file system, it does for all. Windows: ENOSYS.
    """
    cdef int failed
    with nogil:
        failed = fasttile_sync(descriptor)
    return failed
