"""The kernels that convert colours by tables; matrix.py makes these and stands above them."""
from libc.stdint cimport int32_t, uint8_t, uint16_t
from libc.string cimport memcpy

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


cdef enum:
    DEEP_ONE = 65536  # 1.0, with 16 bits behind the point; those of sums have 28


cdef inline ptrdiff_t load(const uint16_t *place) noexcept nogil:
    cdef uint16_t value  # may begin at any byte of a mapped file
    memcpy(&value, place, 2)
    return value


cdef inline int32_t deep_clamped(int32_t total) noexcept nogil:
    total >>= 12
    total = 0 if total < 0 else total
    return DEEP_ONE if total > DEEP_ONE else total


def shape_deep_colours(
    const uint16_t[:, :, ::1] pixels, uint8_t[:, :, ::1] out, const int32_t[:, :, ::1] shares,
    const uint8_t[::1] curve, const uint8_t[::1] alpha
):
    cdef ptrdiff_t _, bands = pixels.shape[2], count = pixels.shape[0] * pixels.shape[1]
    cdef const uint16_t *pixel = &pixels[0, 0, 0]
    cdef uint8_t *to = &out[0, 0, 0]
    cdef const int32_t *red
    cdef const int32_t *green
    cdef const int32_t *blue
    with nogil:
        for _ in range(count):
            red = &shares[0, load(pixel), 0]
            green = &shares[1, load(pixel + 1), 0]
            blue = &shares[2, load(pixel + 2), 0]
            to[0] = curve[deep_clamped(red[0] + green[0] + blue[0])]
            to[1] = curve[deep_clamped(red[1] + green[1] + blue[1])]
            to[2] = curve[deep_clamped(red[2] + green[2] + blue[2])]
            if bands == 4:
                to[3] = alpha[load(pixel + 3)]
            pixel += bands
            to += bands
