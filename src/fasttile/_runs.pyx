"""Decode run lengths of rows of samples. A row that does not fit its data exactly is an error.

PackBits: Apple Technical Note TN1023; its use in PSD: Adobe Photoshop File Formats Specification.
RGBE: "Radiance File Formats" (radsite.lbl.gov), and Greg Ward's "Real Pixels" for the older form.
"""
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy, memset


cdef bint unpack_row(
    const uint8_t *at, const uint8_t *end, uint8_t *out, const uint8_t *out_end
) noexcept nogil:
    cdef ptrdiff_t count
    while out < out_end:
        if at >= end:
            return False
        count = at[0]
        at += 1
        if count == 128:
            continue
        if count < 128:
            count += 1
            if count > end - at or count > out_end - out:
                return False
            memcpy(out, at, count)
            at += count
        else:
            count = 257 - count
            if at == end or count > out_end - out:
                return False
            memset(out, at[0], count)
            at += 1
        out += count
    return end - at <= 1  # some programs make the number of bytes of a row even


def unpack_packbits(
    const uint8_t[::1] packed, const int64_t[::1] offsets, uint8_t[:, ::1] out
):
    cdef ptrdiff_t row, rows = out.shape[0], row_bytes = out.shape[1]
    cdef ptrdiff_t size = packed.shape[0]
    cdef const uint8_t *data = &packed[0]
    cdef uint8_t *to = &out[0, 0]
    with nogil:
        for row in range(rows):
            if not 0 <= offsets[row] <= offsets[row + 1] <= size:
                break
            if not unpack_row(
                data + offsets[row], data + offsets[row + 1],
                to + row * row_bytes, to + (row + 1) * row_bytes,
            ):
                break
        else:
            row = rows
    return row


cdef const uint8_t *unpack_samples(
    const uint8_t *at, const uint8_t *end, uint8_t *out, ptrdiff_t width
) noexcept nogil:
    """One of the four bands of a scanline, every fourth byte of out; NULL if it does not fit."""
    cdef ptrdiff_t count, x = 0
    cdef uint8_t value
    while x < width:
        if at >= end:
            return NULL
        count = at[0]
        at += 1
        if count > 128:
            count -= 128
            if at == end or count > width - x:
                return NULL
            value = at[0]
            at += 1
            for x in range(x, x + count):
                out[4 * x] = value
        else:
            if count == 0 or count > end - at or count > width - x:
                return NULL
            for x in range(x, x + count):
                out[4 * x] = at[0]
                at += 1
        x += 1
    return at


cdef const uint8_t *unpack_scanline(
    const uint8_t *at, const uint8_t *end, uint8_t *out, ptrdiff_t width
) noexcept nogil:
    cdef ptrdiff_t band, count, x = 0
    cdef int shift = 0
    if end - at < 4:
        return NULL
    if 8 <= width < 32768 and at[0] == 2 and at[1] == 2 and at[2] < 128:
        if at[2] * 256 + at[3] != width:
            return NULL
        at += 4
        for band in range(4):
            at = unpack_samples(at, end, out + band, width)
            if at == NULL:
                return NULL
        return at
    while x < width:
        if end - at < 4:
            return NULL
        if at[0] == 1 and at[1] == 1 and at[2] == 1:  # repeats of the pixel before
            if shift > 16 or x == 0:
                return NULL
            count = <ptrdiff_t>at[3] << shift
            if count > width - x:
                return NULL
            for x in range(x, x + count):
                memcpy(out + 4 * x, out + 4 * x - 4, 4)
            if count:
                x += 1
            shift += 8
        else:
            memcpy(out + 4 * x, at, 4)
            x += 1
            shift = 0
        at += 4
    return at


def unpack_rgbe(const uint8_t[::1] data, uint8_t[:, :, ::1] out):
    cdef ptrdiff_t row, rows = out.shape[0], width = out.shape[1]
    cdef const uint8_t *start = &data[0]
    cdef const uint8_t *end = start + data.shape[0]
    cdef const uint8_t *at = start
    cdef const uint8_t *after
    cdef uint8_t *to = &out[0, 0, 0]
    with nogil:
        for row in range(rows):
            after = unpack_scanline(at, end, to + row * width * 4, width)
            if after == NULL:
                break
            at = after
        else:
            row = rows
    return row, at - start
