"""Fault in and discard the pages of memory under rows of a mapped file; outlive lost ones.

A page of a mapped file that was cut short is lost: an access raises SIGBUS, which ends the process.
The handler of `guard` lays zeros over the lost pages of registered ranges and marks the range, so
that the reader can raise an error after it has read. It calls sigaction, mmap and raise only, which
are safe in a handler, and changes no memory but the marks.
"""

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

    #if defined(__linux__)
    #ifndef MREMAP_DONTUNMAP
    #define MREMAP_DONTUNMAP 4
    #endif
    #ifndef MAP_FIXED_NOREPLACE
    #define MAP_FIXED_NOREPLACE 0x100000
    #endif
    static int fasttile_move(char *p, char *to, size_t n) {
        int failed;
        if (mremap(p, n, n, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to) == (void *)to)
            return 0;
        failed = errno;
        /* The target may be unmapped already. It must not stay so: others would take its place. */
        mmap(to, n, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        return failed;
    }
    #else
    static int fasttile_move(char *p, char *to, size_t n) {
        (void)p; (void)to; (void)n;
        return ENOSYS;
    }
    #endif

    #if defined(_WIN32)
    static int fasttile_guard(void) { return 0; }
    static void *fasttile_register(uintptr_t start, size_t n) { (void)start; (void)n; return 0; }
    static void fasttile_unregister(void *range) { (void)range; }
    static int fasttile_has_lost(void *range) { (void)range; return 0; }
    #else
    #include <signal.h>
    #include <stdlib.h>
    #include <string.h>

    /* The ranges are a list that only grows: an unused one is used again, none is freed. So the
       handler can walk along it at any moment. */
    typedef struct fasttile_range {
        struct fasttile_range *next;
        uintptr_t start, end;
        int is_used, has_lost;
    } fasttile_range;

    static fasttile_range *fasttile_ranges = NULL;
    static struct sigaction fasttile_previous;
    static uintptr_t fasttile_page_size;

    static void *fasttile_register(uintptr_t start, size_t n) {
        fasttile_range *range = __atomic_load_n(&fasttile_ranges, __ATOMIC_ACQUIRE);
        for (; range != NULL; range = range->next) {
            int expected = 0;
            if (__atomic_compare_exchange_n(&range->is_used, &expected, 1, 0, __ATOMIC_SEQ_CST,
                                            __ATOMIC_SEQ_CST))
                break;
        }
        if (range == NULL) {
            range = (fasttile_range *)calloc(1, sizeof *range);
            if (range == NULL)
                return NULL;
            range->is_used = 1;
            range->next = __atomic_load_n(&fasttile_ranges, __ATOMIC_ACQUIRE);
            while (!__atomic_compare_exchange_n(&fasttile_ranges, &range->next, range, 0,
                                                __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
                ;
        }
        __atomic_store_n(&range->has_lost, 0, __ATOMIC_SEQ_CST);
        __atomic_store_n(&range->start, start, __ATOMIC_SEQ_CST);
        __atomic_store_n(&range->end, start + n, __ATOMIC_SEQ_CST); /* from now on it counts */
        return range;
    }

    static void fasttile_unregister(void *handle) {
        fasttile_range *range = (fasttile_range *)handle;
        __atomic_store_n(&range->end, 0, __ATOMIC_SEQ_CST);
        __atomic_store_n(&range->start, 0, __ATOMIC_SEQ_CST);
        __atomic_store_n(&range->is_used, 0, __ATOMIC_SEQ_CST);
    }

    static int fasttile_has_lost(void *range) {
        return __atomic_load_n(&((fasttile_range *)range)->has_lost, __ATOMIC_SEQ_CST);
    }

    static void fasttile_on_bus_error(int number, siginfo_t *info, void *context) {
        int error = errno, is_held = 0;
        uintptr_t at = (uintptr_t)info->si_addr;
        fasttile_range *range = NULL;
        /* Signals that a process sends have a code of 0 or less. */
        if (info->si_code > 0 && info->si_code != BUS_ADRALN)
            range = __atomic_load_n(&fasttile_ranges, __ATOMIC_SEQ_CST);
        for (; range != NULL; range = range->next) {
            uintptr_t end = __atomic_load_n(&range->end, __ATOMIC_SEQ_CST);
            if (at < __atomic_load_n(&range->start, __ATOMIC_SEQ_CST) || at >= end)
                continue;
            /* The mark comes first: no thread may read a zero before it. The zeros reach to the
               end of the range, since a file is cut short at its end; one call covers all. */
            __atomic_store_n(&range->has_lost, 1, __ATOMIC_SEQ_CST);
            uintptr_t page = at & ~(fasttile_page_size - 1);
            if (mmap((void *)page, end - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                     -1, 0) != MAP_FAILED)
                is_held = 1;
        }
        if (!is_held) {
            /* A fault happens again after the return, and meets the previous action. */
            sigaction(SIGBUS, &fasttile_previous, NULL);
            if (info->si_code <= 0)
                raise(SIGBUS);
        }
        errno = error;
        (void)number; (void)context;
    }

    static int fasttile_guard(void) {
        static int is_guarded = 0;
        struct sigaction action;
        int expected = 0;
        if (!__atomic_compare_exchange_n(&is_guarded, &expected, 1, 0, __ATOMIC_SEQ_CST,
                                         __ATOMIC_SEQ_CST))
            return 1;
        fasttile_page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
        memset(&action, 0, sizeof action);
        action.sa_sigaction = fasttile_on_bus_error;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
        sigemptyset(&action.sa_mask);
        if (sigaction(SIGBUS, &action, &fasttile_previous) != 0) {
            __atomic_store_n(&is_guarded, 0, __ATOMIC_SEQ_CST);
            return 0;
        }
        return 1;
    }
    #endif
    """
    ctypedef unsigned long uintptr_t
    size_t fasttile_page() noexcept nogil
    int fasttile_populate(char *p, size_t n) noexcept nogil
    void fasttile_discard(char *p, size_t n) noexcept nogil
    int fasttile_move(char *p, char *to, size_t n) noexcept nogil
    int fasttile_guard() noexcept
    void *fasttile_register(uintptr_t start, size_t n) noexcept
    void fasttile_unregister(void *range) noexcept
    int fasttile_has_lost(void *range) noexcept nogil

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


def move(address_t start, address_t to, Py_ssize_t size):
    """Move the pages of private anonymous memory within its map: an errno, or 0.

    Afterwards there are zeros where they were; what was at the target is gone. All are multiples of
    the page size, and the source must lie in one map of the system: one that was never a part of
    a target, or a part of one target.
    """
    cdef int failed
    with nogil:
        failed = fasttile_move(<char *>start, <char *>to, <size_t>size)
    return failed


def guard():
    """Install the handler of SIGBUS; True if it is in force, False where there is no SIGBUS."""
    return bool(fasttile_guard())


cdef class MappedRange:
    """A registered range of memory, that of a mapped file.

    Args:
        mapping: The map; it is not kept, and stays mapped until `unregister`.
    """

    cdef void *_range

    def __init__(self, const unsigned char[::1] mapping):
        self._range = fasttile_register(<uintptr_t>&mapping[0], <size_t>mapping.shape[0])

    def __reduce__(self):
        raise TypeError("a MappedRange belongs to one process")

    @property
    def has_lost_pages(self):
        """True if a page was lost and read as zeros; for good."""
        return self._range is not NULL and fasttile_has_lost(self._range) != 0

    def unregister(self):
        """Forget the range, before its memory is unmapped; a second call does nothing."""
        if self._range is not NULL:
            fasttile_unregister(self._range)
            self._range = NULL
