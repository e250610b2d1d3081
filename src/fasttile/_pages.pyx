"""Fault in and discard the pages of memory under rows of a mapped file."""

cdef extern from *:
    """
    #include <stddef.h>
    #include <stdint.h>
    #include <errno.h>
    #if defined(_WIN32)
    static size_t fasttile_page(void) { return 4096; }
    static int fasttile_populate(char *p, size_t n) { (void)p; (void)n; return 0; }
    static void fasttile_discard(char *p, size_t n) { (void)p; (void)n; }
    #else
    #include <sys/mman.h>
    #include <unistd.h>
    static size_t fasttile_page(void) { return (size_t)sysconf(_SC_PAGESIZE); }
    static int fasttile_populate(char *p, size_t n) {
    #if defined(__linux__)
        /* MADV_POPULATE_READ is 22, since Linux 5.14; EINVAL from an older kernel is no fault. */
        while (madvise(p, n, 22) != 0) {
            if (errno == EINTR || errno == EAGAIN) continue;
            return errno == EINVAL ? 0 : errno;
        }
    #endif
        (void)p; (void)n;
        return 0;
    }
    static void fasttile_discard(char *p, size_t n) {
    #if defined(__linux__)
        madvise(p, n, MADV_DONTNEED);
    #else
        (void)p; (void)n;
    #endif
    }
    #endif
    """
    size_t fasttile_page() noexcept nogil
    int fasttile_populate(char *p, size_t n) noexcept nogil
    void fasttile_discard(char *p, size_t n) noexcept nogil

ctypedef unsigned long long address_t

cdef int _advise(
    address_t start, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t row_bytes, bint populate
) noexcept nogil:
    # All pages that a row touches; rows that lie closer than a page are taken together.
    cdef address_t page = fasttile_page()
    cdef address_t low = 0, high = 0, first = 0, last = 0
    cdef Py_ssize_t y
    cdef int failed
    for y in range(rows + 1):
        if y < rows:
            low = (start + <address_t>(y * stride)) & ~(page - 1)
            high = (start + <address_t>(y * stride) + <address_t>row_bytes + page - 1) & ~(page - 1)
            if y > 0 and low <= last and high >= first:
                first = min(first, low)
                last = max(last, high)
                continue
        if y > 0:
            if populate:
                failed = fasttile_populate(<char *>first, last - first)
                if failed:
                    return failed
            else:
                fasttile_discard(<char *>first, last - first)
        first, last = low, high
    return 0


def populate(address_t start, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t row_bytes):
    """Fault in the pages of `rows` rows, or say why that cannot be: an errno, or 0."""
    cdef int failed
    with nogil:
        failed = _advise(start, stride, rows, row_bytes, True)
    return failed


def discard(address_t start, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t row_bytes):
    """Drop the pages of `rows` rows from this process; a mapped file gives them again."""
    with nogil:
        _advise(start, stride, rows, row_bytes, False)
