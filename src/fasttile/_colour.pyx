"""The kernel that converts colours by tables; matrix.py makes these and stands above it."""
from libc.stdint cimport int32_t, uint8_t

cdef enum:
    ONE = 16384  # 1.0, with 14 bits behind the point


cdef inline int32_t clamped(int32_t total) noexcept nogil:
    total >>= 14
    total = 0 if total < 0 else total
    return ONE if total > ONE else total


def shape_colours(
    uint8_t[:, :, ::1] pixels, const int32_t[:, :, ::1] shares, const uint8_t[::1] curve
):
    cdef uint8_t *pixel = &pixels[0, 0, 0]
    cdef const uint8_t *end = pixel + pixels.shape[0] * pixels.shape[1] * 4
    cdef const int32_t *red
    cdef const int32_t *green
    cdef const int32_t *blue
    with nogil:
        while pixel < end:
            red = &shares[0, pixel[0], 0]
            green = &shares[1, pixel[1], 0]
            blue = &shares[2, pixel[2], 0]
            pixel[0] = curve[clamped(red[0] + green[0] + blue[0])]
            pixel[1] = curve[clamped(red[1] + green[1] + blue[1])]
            pixel[2] = curve[clamped(red[2] + green[2] + blue[2])]
            pixel += 4
