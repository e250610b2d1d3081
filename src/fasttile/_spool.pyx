"""The file in memory that Pillow writes an encoded tile into: take it out as bytes."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

cdef extern from *:
    """
    #include <errno.h>
    #if defined(_WIN32)
    #include <io.h>
    #define SPOOL_SEEK _lseeki64
    #define SPOOL_READ _read
    #else
    #include <unistd.h>
    #define SPOOL_SEEK lseek
    #define SPOOL_READ read
    #endif
    """
    long long SPOOL_SEEK(int, long long, int)
    Py_ssize_t SPOOL_READ(int, void *, size_t)


def take(int descriptor):
    """What was written since the last call; the file is rewound.

    The GIL is kept: the file lies in memory, and three calls that let go of it and fight for
    it again would cost more than they do.
    """
    cdef long long length = SPOOL_SEEK(descriptor, 0, 1)
    cdef Py_ssize_t done = 0, step
    if length < 0 or SPOOL_SEEK(descriptor, 0, 0) != 0:
        raise OSError("the spool file cannot be rewound")
    data = PyBytes_FromStringAndSize(NULL, length)
    while done < length:
        step = SPOOL_READ(descriptor, PyBytes_AS_STRING(data) + done, <size_t>(length - done))
        if step <= 0:
            raise OSError("the spool file cannot be read back")
        done += step
    if SPOOL_SEEK(descriptor, 0, 0) != 0:
        raise OSError("the spool file cannot be rewound")
    return data
