"""The methods that compute with values, beside the mean; _resample.pyx includes this file.

Linear light: the tables of `kernels.LightTables` lead from codes to light, and back. Maximum,
minimum and median: each band by itself.
"""

cdef struct light_tables:
    # Those of the first band; those of the next one are `step` tables further on, which is 0 or 1.
    const uint32_t *lights
    const uint32_t *thresholds
    const void *first
    ptrdiff_t step


cdef inline uint32_t codes_of(pixel_t zero) noexcept nogil:
    return 256 if sizeof(pixel_t) == 1 else 65_536


cdef inline uint32_t buckets_of(pixel_t zero) noexcept nogil:
    return 131_072 if sizeof(pixel_t) == 1 else 65_537


cdef inline pixel_t nearest_code(
    uint32_t light, const uint32_t *thresholds, const pixel_t *first
) noexcept nogil:
    # The number of thresholds that are not above the light.
    cdef uint32_t low, high, middle
    if pixel_t is uint8_t:
        low = first[light]
    else:
        low, high = first[light >> 16], first[(light >> 16) + 1]
        while low < high:
            middle = (low + high) >> 1
            if light >= thresholds[middle]:
                low = middle + 1
            else:
                high = middle
    return <pixel_t>low


cdef inline void linear_pixel(
    const pixel_t *a0, const pixel_t *a1, const pixel_t *b0, const pixel_t *b1,
    pixel_t *restrict out, ptrdiff_t bands, bint alpha, light_tables tables, sum_t zero,
) noexcept nogil:
    # The rules of mean_pixels and premultiplied_mean, for light. sum_t holds four products.
    cdef ptrdiff_t band, table, colours = 3 if bands >= 3 else 1
    cdef uint32_t opaque = 4 * (codes_of[pixel_t](0) - 1), weight = opaque
    cdef const uint32_t *lights
    cdef sum_t light
    if alpha:
        weight = <uint32_t>load[pixel_t](a0 + colours) + load[pixel_t](a1 + colours)
        weight += <uint32_t>load[pixel_t](b0 + colours) + load[pixel_t](b1 + colours)
        store[pixel_t](out + colours, <pixel_t>((weight + 2) >> 2))
    elif bands == 4:
        store[pixel_t](out + 3, load[pixel_t](a0 + 3))  # no colour: the fourth byte of RGB
    for band in range(colours):
        table = tables.step * band
        lights = tables.lights + table * codes_of[pixel_t](0)
        if weight == opaque:
            light = zero + lights[load[pixel_t](a0 + band)] + lights[load[pixel_t](a1 + band)]
            light += zero + lights[load[pixel_t](b0 + band)] + lights[load[pixel_t](b1 + band)]
            light = (light + 2) >> 2
        elif weight:
            light = <sum_t>lights[load[pixel_t](a0 + band)] * load[pixel_t](a0 + colours)
            light += <sum_t>lights[load[pixel_t](a1 + band)] * load[pixel_t](a1 + colours)
            light += <sum_t>lights[load[pixel_t](b0 + band)] * load[pixel_t](b0 + colours)
            light += <sum_t>lights[load[pixel_t](b1 + band)] * load[pixel_t](b1 + colours)
            light = (light + (weight >> 1)) // weight
        else:
            store[pixel_t](out + band, 0)
            continue
        store[pixel_t](out + band, nearest_code[pixel_t](
            <uint32_t>light, tables.thresholds + table * (codes_of[pixel_t](0) - 1),
            <const pixel_t *>tables.first + table * buckets_of[pixel_t](0),
        ))


cdef inline void linear_pixels(
    const pixel_t *a, const pixel_t *b, pixel_t *restrict out,
    ptrdiff_t width, ptrdiff_t bands, bint alpha, light_tables tables,
) noexcept nogil:
    cdef ptrdiff_t x, i, pixels = width // 2
    for x in range(pixels):
        i = 2 * x * bands
        linear_pixel_of[pixel_t](
            a + i, a + i + bands, b + i, b + i + bands, out + x * bands, bands, alpha, tables
        )
    if width % 2:  # the last column is its own neighbour
        i = 2 * pixels * bands
        linear_pixel_of[pixel_t](
            a + i, a + i, b + i, b + i, out + pixels * bands, bands, alpha, tables
        )


cdef inline void linear_pixel_of(
    const pixel_t *a0, const pixel_t *a1, const pixel_t *b0, const pixel_t *b1,
    pixel_t *restrict out, ptrdiff_t bands, bint alpha, light_tables tables,
) noexcept nogil:
    if pixel_t is uint8_t:
        linear_pixel[uint8_t, uint32_t](a0, a1, b0, b1, out, bands, alpha, tables, 0)
    else:
        linear_pixel[uint16_t, uint64_t](a0, a1, b0, b1, out, bands, alpha, tables, 0)


cdef void linear_rows(
    const pixel_t *src, ptrdiff_t src_stride, ptrdiff_t height, ptrdiff_t width,
    ptrdiff_t bands, pixel_t *out, ptrdiff_t out_stride, bint alpha, light_tables tables,
) noexcept nogil:
    cdef ptrdiff_t y
    cdef const pixel_t *a
    cdef const pixel_t *b
    cdef pixel_t *row
    for y in range((height + 1) // 2):
        a = <const pixel_t *>(<const char *>src + 2 * y * src_stride)
        b = a
        if 2 * y + 1 < height:  # else the last row is its own neighbour
            b = <const pixel_t *>(<const char *>a + src_stride)
        row = <pixel_t *>(<char *>out + y * out_stride)
        if alpha and bands == 4:
            linear_pixels[pixel_t](a, b, row, width, 4, True, tables)
        elif alpha:
            linear_pixels[pixel_t](a, b, row, width, 2, True, tables)
        elif bands == 4:
            linear_pixels[pixel_t](a, b, row, width, 4, False, tables)
        elif bands == 3:
            linear_pixels[pixel_t](a, b, row, width, 3, False, tables)
        else:
            linear_pixels[pixel_t](a, b, row, width, 1, False, tables)


def linear_8bit(
    const uint8_t[:, :, :] src, uint8_t[:, :, :] out, bint alpha, const uint32_t[:, ::1] lights,
    const uint32_t[:, ::1] thresholds, const uint8_t[:, ::1] first,
):
    cdef light_tables tables
    tables.lights, tables.thresholds = &lights[0, 0], &thresholds[0, 0]
    tables.first, tables.step = &first[0, 0], lights.shape[0] > 1
    with nogil:
        linear_rows[uint8_t](
            &src[0, 0, 0], src.strides[0], src.shape[0], src.shape[1], src.shape[2],
            &out[0, 0, 0], out.strides[0], alpha, tables,
        )


def linear_16bit(
    const uint16_t[:, :, :] src, uint16_t[:, :, :] out, bint alpha, const uint32_t[:, ::1] lights,
    const uint32_t[:, ::1] thresholds, const uint16_t[:, ::1] first,
):
    cdef light_tables tables
    tables.lights, tables.thresholds = &lights[0, 0], &thresholds[0, 0]
    tables.first, tables.step = &first[0, 0], lights.shape[0] > 1
    with nogil:
        linear_rows[uint16_t](
            &src[0, 0, 0], src.strides[0], src.shape[0], src.shape[1], src.shape[2],
            &out[0, 0, 0], out.strides[0], alpha, tables,
        )


# Maximum, minimum and median.

cdef enum:
    MAXIMUM
    MINIMUM
    MEDIAN


cdef inline pixel_t larger(pixel_t one, pixel_t other) noexcept nogil:
    return one if one > other else other


cdef inline pixel_t smaller(pixel_t one, pixel_t other) noexcept nogil:
    return one if one < other else other


cdef inline pixel_t ranked(
    pixel_t a0, pixel_t a1, pixel_t b0, pixel_t b1, int rank
) noexcept nogil:
    if rank == MAXIMUM:
        return larger[pixel_t](larger[pixel_t](a0, a1), larger[pixel_t](b0, b1))
    if rank == MINIMUM:
        return smaller[pixel_t](smaller[pixel_t](a0, a1), smaller[pixel_t](b0, b1))
    return smaller[pixel_t](larger[pixel_t](a0, a1), larger[pixel_t](b0, b1))


cdef inline void rank_pixel(
    const pixel_t *a0, const pixel_t *a1, const pixel_t *b0, const pixel_t *b1,
    pixel_t *restrict out, ptrdiff_t bands, int rank,
) noexcept nogil:
    cdef ptrdiff_t band
    for band in range(bands):
        store[pixel_t](out + band, ranked[pixel_t](
            load[pixel_t](a0 + band), load[pixel_t](a1 + band),
            load[pixel_t](b0 + band), load[pixel_t](b1 + band), rank,
        ))


cdef inline void rank_pixel_with_alpha(
    const pixel_t *a0, const pixel_t *a1, const pixel_t *b0, const pixel_t *b1,
    pixel_t *restrict out, ptrdiff_t bands, int rank,
) noexcept nogil:
    cdef ptrdiff_t band, alpha = bands - 1
    rank_pixel[pixel_t](a0 + alpha, a1 + alpha, b0 + alpha, b1 + alpha, out + alpha, 1, rank)
    # A transparent pixel has the colour of its neighbour, and a transparent row that of the other.
    if load[pixel_t](a0 + alpha) == 0:
        a0 = a1
    elif load[pixel_t](a1 + alpha) == 0:
        a1 = a0
    if load[pixel_t](b0 + alpha) == 0:
        b0 = b1
    elif load[pixel_t](b1 + alpha) == 0:
        b1 = b0
    if load[pixel_t](a0 + alpha) == 0:
        a0, a1 = b0, b1
    elif load[pixel_t](b0 + alpha) == 0:
        b0, b1 = a0, a1
    if load[pixel_t](a0 + alpha):
        rank_pixel[pixel_t](a0, a1, b0, b1, out, alpha, rank)
    else:
        for band in range(alpha):
            store[pixel_t](out + band, 0)


cdef inline void rank_pixels(
    const pixel_t *a, const pixel_t *b, pixel_t *restrict out,
    ptrdiff_t width, ptrdiff_t bands, bint alpha, int rank,
) noexcept nogil:
    cdef ptrdiff_t x, i, pixels = width // 2
    for x in range(pixels):
        i = 2 * x * bands
        rank_pixel_of[pixel_t](
            a + i, a + i + bands, b + i, b + i + bands, out + x * bands, bands, alpha, rank
        )
    if width % 2:  # the last column is its own neighbour
        i = 2 * pixels * bands
        rank_pixel_of[pixel_t](a + i, a + i, b + i, b + i, out + pixels * bands, bands, alpha, rank)


cdef inline void rank_pixel_of(
    const pixel_t *a0, const pixel_t *a1, const pixel_t *b0, const pixel_t *b1,
    pixel_t *restrict out, ptrdiff_t bands, bint alpha, int rank,
) noexcept nogil:
    if alpha:
        rank_pixel_with_alpha[pixel_t](a0, a1, b0, b1, out, bands, rank)
    else:
        rank_pixel[pixel_t](a0, a1, b0, b1, out, bands, rank)


cdef inline void rank_row(
    const pixel_t *a, const pixel_t *b, pixel_t *restrict out,
    ptrdiff_t width, ptrdiff_t bands, bint alpha, int rank,
) noexcept nogil:
    if alpha and bands == 4:
        rank_pixels[pixel_t](a, b, out, width, 4, True, rank)
    elif alpha:
        rank_pixels[pixel_t](a, b, out, width, 2, True, rank)
    elif bands == 1:
        rank_pixels[pixel_t](a, b, out, width, 1, False, rank)
    elif bands == 2:
        rank_pixels[pixel_t](a, b, out, width, 2, False, rank)
    elif bands == 3:
        rank_pixels[pixel_t](a, b, out, width, 3, False, rank)
    else:
        rank_pixels[pixel_t](a, b, out, width, 4, False, rank)


cdef void rank_rows(
    const pixel_t *src, ptrdiff_t src_stride, ptrdiff_t height, ptrdiff_t width,
    ptrdiff_t bands, pixel_t *out, ptrdiff_t out_stride, bint alpha, int rank,
) noexcept nogil:
    cdef ptrdiff_t y
    cdef const pixel_t *a
    cdef const pixel_t *b
    cdef pixel_t *row
    for y in range((height + 1) // 2):
        a = <const pixel_t *>(<const char *>src + 2 * y * src_stride)
        b = a
        if 2 * y + 1 < height:  # else the last row is its own neighbour
            b = <const pixel_t *>(<const char *>a + src_stride)
        row = <pixel_t *>(<char *>out + y * out_stride)
        if rank == MAXIMUM:
            rank_row[pixel_t](a, b, row, width, bands, alpha, MAXIMUM)
        elif rank == MINIMUM:
            rank_row[pixel_t](a, b, row, width, bands, alpha, MINIMUM)
        else:
            rank_row[pixel_t](a, b, row, width, bands, alpha, MEDIAN)


def rank_8bit(const uint8_t[:, :, :] src, uint8_t[:, :, :] out, bint alpha, int rank):
    with nogil:
        rank_rows[uint8_t](
            &src[0, 0, 0], src.strides[0], src.shape[0], src.shape[1], src.shape[2],
            &out[0, 0, 0], out.strides[0], alpha, rank,
        )


def rank_16bit(const uint16_t[:, :, :] src, uint16_t[:, :, :] out, bint alpha, int rank):
    with nogil:
        rank_rows[uint16_t](
            &src[0, 0, 0], src.strides[0], src.shape[0], src.shape[1], src.shape[2],
            &out[0, 0, 0], out.strides[0], alpha, rank,
        )
