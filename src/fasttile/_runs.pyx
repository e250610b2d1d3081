"""Decode run lengths of rows of samples. A row that does not fit its data exactly is an error.

PackBits: Apple Technical Note TN1023; its use in PSD: Adobe Photoshop File Formats Specification.
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
