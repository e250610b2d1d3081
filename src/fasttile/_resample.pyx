"""The kernels: halve rows of pixels, by the 2×2 box or by choice, pack a tile. No policy.

resample.py stands above and proves every precondition: shapes, strides, overlap of buffers.
Views are (rows, width, bands); a row's pixels are contiguous, rows may have any stride.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

cdef extern from "_resample_simd.h" nogil:
    const char *FASTTILE_VARIANT
    ptrdiff_t simd_halve_row_1(const uint8_t *, const uint8_t *, uint8_t *, ptrdiff_t)
    ptrdiff_t simd_halve_row_3(const uint8_t *, const uint8_t *, uint8_t *, ptrdiff_t)
    ptrdiff_t simd_halve_row_4(const uint8_t *, const uint8_t *, uint8_t *, ptrdiff_t, int)
    ptrdiff_t simd_premultiplied_row_4(const uint8_t *, const uint8_t *, uint8_t *, ptrdiff_t)
    ptrdiff_t simd_pack_row_3(const uint8_t *, uint8_t *, ptrdiff_t)
    const char *fastest_variant()
    void prefetch(const void *, ptrdiff_t)
    const ptrdiff_t PREFETCH_ROWS

ctypedef fused pixel_t:
    uint8_t
    uint16_t

ctypedef fused word_t:
    uint8_t
    uint16_t
    uint32_t
    uint64_t

ctypedef fused sum_t:
    uint32_t
    uint64_t

VARIANT = FASTTILE_VARIANT.decode()


def best_variant():
    """The fastest twin of this module that this processor can run, or "plain"."""
    return fastest_variant().decode()


# Rows of 16 bits may begin at any byte: those of a mapped file whose header has an odd length. C
# allows such accesses by memcpy only, which compilers turn into the same instructions.


cdef inline word_t load(const word_t *place) noexcept nogil:
    cdef word_t value
    memcpy(&value, place, sizeof(word_t))
    return value


cdef inline void store(word_t *place, word_t value) noexcept nogil:
    memcpy(place, &value, sizeof(word_t))


cdef inline void mean_pixels(
    const pixel_t *a, const pixel_t *b, pixel_t *restrict out,
    ptrdiff_t start, ptrdiff_t pixels, ptrdiff_t bands,
) noexcept nogil:
    # Called with a literal number of bands, so that the compiler unrolls it away.
    cdef ptrdiff_t x, band, i
    for x in range(start, pixels):
        for band in range(bands):
            i = 2 * x * bands + band
            store[pixel_t](out + x * bands + band, <pixel_t>((
                <uint32_t>load[pixel_t](a + i) + load[pixel_t](a + i + bands)
                + load[pixel_t](b + i) + load[pixel_t](b + i + bands) + 2
            ) >> 2))


cdef inline void premultiplied_mean(
    const pixel_t *a0, const pixel_t *a1, const pixel_t *b0, const pixel_t *b1,
    pixel_t *restrict out, ptrdiff_t bands, sum_t zero,
) noexcept nogil:
    # The rule of resample.halve for pixels with alpha; the last band is alpha.
    # sum_t holds four products of two pixels' values.
    cdef ptrdiff_t band, alpha = bands - 1
    cdef sum_t alpha_a0 = zero + load[pixel_t](a0 + alpha)
    cdef sum_t alpha_a1 = zero + load[pixel_t](a1 + alpha)
    cdef sum_t alpha_b0 = zero + load[pixel_t](b0 + alpha)
    cdef sum_t alpha_b1 = zero + load[pixel_t](b1 + alpha)
    cdef sum_t weight = alpha_a0 + alpha_a1 + alpha_b0 + alpha_b1
    cdef sum_t colour
    for band in range(alpha):
        colour = (
            load[pixel_t](a0 + band) * alpha_a0 + load[pixel_t](a1 + band) * alpha_a1
            + load[pixel_t](b0 + band) * alpha_b0 + load[pixel_t](b1 + band) * alpha_b1
        )
        colour = (colour + (weight >> 1)) // weight if weight else 0
        store[pixel_t](out + band, <pixel_t>colour)
    store[pixel_t](out + alpha, <pixel_t>((weight + 2) >> 2))


cdef inline void premultiplied_means(
    const pixel_t *a, const pixel_t *b, pixel_t *restrict out,
    ptrdiff_t start, ptrdiff_t pixels, ptrdiff_t bands,
) noexcept nogil:
    cdef ptrdiff_t x, i
    for x in range(start, pixels):
        i = 2 * x * bands
        premultiplied_mean_of(a + i, a + i + bands, b + i, b + i + bands, out + x * bands, bands)


cdef inline void premultiplied_mean_of(
    const pixel_t *a0, const pixel_t *a1, const pixel_t *b0, const pixel_t *b1,
    pixel_t *restrict out, ptrdiff_t bands,
) noexcept nogil:
    if pixel_t is uint8_t:
        premultiplied_mean[uint8_t, uint32_t](a0, a1, b0, b1, out, bands, 0)
    else:
        premultiplied_mean[uint16_t, uint64_t](a0, a1, b0, b1, out, bands, 0)


cdef inline ptrdiff_t weigh_8bit_rgba(
    const uint8_t *a, const uint8_t *b, uint8_t *restrict out, ptrdiff_t pixels
) noexcept nogil:
    # The plain mean while all is opaque, eight pixels weighted where something is not.
    cdef ptrdiff_t step, done = 0
    while done + 8 <= pixels:
        step = simd_halve_row_4(a + 8 * done, b + 8 * done, out + 4 * done, pixels - done, True)
        if step == 0:
            step = simd_premultiplied_row_4(a + 8 * done, b + 8 * done, out + 4 * done, 8)
        if step == 0:
            break
        done += step
    return done


cdef inline ptrdiff_t simd_start(
    const pixel_t *a, const pixel_t *b, pixel_t *restrict out,
    ptrdiff_t pixels, ptrdiff_t bands, bint alpha,
) noexcept nogil:
    if pixel_t is uint8_t:
        if bands == 1:
            return simd_halve_row_1(a, b, out, pixels)
        if bands == 3:
            return simd_halve_row_3(a, b, out, pixels)
        if bands == 4:
            if alpha:
                return weigh_8bit_rgba(a, b, out, pixels)
            return simd_halve_row_4(a, b, out, pixels, False)
    return 0


cdef void halve_row(
    const pixel_t *a, const pixel_t *b, pixel_t *restrict out,
    ptrdiff_t width, ptrdiff_t bands, bint alpha,
) noexcept nogil:
    cdef ptrdiff_t pixels = width // 2
    cdef ptrdiff_t band, last, start = simd_start[pixel_t](a, b, out, pixels, bands, alpha)
    if alpha and bands == 2:
        premultiplied_means[pixel_t](a, b, out, start, pixels, 2)
    elif alpha:
        premultiplied_means[pixel_t](a, b, out, start, pixels, 4)
    elif bands == 1:
        mean_pixels[pixel_t](a, b, out, start, pixels, 1)
    elif bands == 2:
        mean_pixels[pixel_t](a, b, out, start, pixels, 2)
    elif bands == 3:
        mean_pixels[pixel_t](a, b, out, start, pixels, 3)
    else:
        mean_pixels[pixel_t](a, b, out, start, pixels, 4)
    if width % 2 == 0:
        return
    last = (width - 1) * bands  # the last column is its own neighbour
    if alpha:
        premultiplied_mean_of[pixel_t](
            a + last, a + last, b + last, b + last, out + pixels * bands, bands
        )
        return
    for band in range(bands):
        store[pixel_t](out + pixels * bands + band, <pixel_t>((
            <uint32_t>load[pixel_t](a + last + band) + load[pixel_t](b + last + band) + 1
        ) >> 1))


cdef void halve_rows(
    const pixel_t *src, ptrdiff_t src_stride, ptrdiff_t height, ptrdiff_t width,
    ptrdiff_t bands, pixel_t *out, ptrdiff_t out_stride, bint alpha,
) noexcept nogil:
    cdef ptrdiff_t y
    cdef const char *a
    cdef const char *b
    for y in range((height + 1) // 2):
        a = <const char *>src + 2 * y * src_stride
        b = a + src_stride if 2 * y + 1 < height else a  # the last row is its own neighbour
        halve_row[pixel_t](
            <const pixel_t *>a, <const pixel_t *>b,
            <pixel_t *>(<char *>out + y * out_stride), width, bands, alpha,
        )


def halve_8bit(const uint8_t[:, :, :] src, uint8_t[:, :, :] out, bint alpha):
    with nogil:
        halve_rows[uint8_t](
            &src[0, 0, 0], src.strides[0], src.shape[0], src.shape[1], src.shape[2],
            &out[0, 0, 0], out.strides[0], alpha,
        )


def halve_16bit(const uint16_t[:, :, :] src, uint16_t[:, :, :] out, bint alpha):
    with nogil:
        halve_rows[uint16_t](
            &src[0, 0, 0], src.strides[0], src.shape[0], src.shape[1], src.shape[2],
            &out[0, 0, 0], out.strides[0], alpha,
        )


# Choosing one of four pixels: a pixel is one word of all its bands, copied out of memory because
# it may lie at any byte. The number of bands is a literal, so that the compiler unrolls it away
# and makes vectors of all but three bands.


cdef inline word_t load_word(const pixel_t *pixel, ptrdiff_t bands, word_t zero) noexcept nogil:
    cdef word_t word = zero
    cdef ptrdiff_t band
    if bands * sizeof(pixel_t) == sizeof(word_t):
        memcpy(&word, pixel, sizeof(word_t))
        return word
    for band in range(bands):
        word |= <word_t>(<word_t>load[pixel_t](pixel + band) << (8 * sizeof(pixel_t) * band))
    return word


cdef inline void store_word(pixel_t *pixel, ptrdiff_t bands, word_t word) noexcept nogil:
    cdef ptrdiff_t band
    if bands * sizeof(pixel_t) == sizeof(word_t):
        memcpy(pixel, &word, sizeof(word_t))
        return
    for band in range(bands):
        store[pixel_t](pixel + band, <pixel_t>(word >> (8 * sizeof(pixel_t) * band)))


cdef inline word_t most_frequent(word_t a, word_t b, word_t c, word_t d) noexcept nogil:
    # Where `a` is alone, one value at most is there twice among the others, so it does not matter
    # which pair of them is found. Selects, not branches: compilers make vectors of these.
    cdef word_t found = a
    found = c if c == d else found
    found = b if (b == c) | (b == d) else found
    return a if (a == b) | (a == c) | (a == d) else found


cdef inline void select_pixels(
    const pixel_t *a, const pixel_t *b, pixel_t *restrict out,
    ptrdiff_t width, ptrdiff_t bands, bint mode, word_t zero,
) noexcept nogil:
    cdef ptrdiff_t x, i, fours = width // 2 if mode else 0
    for x in range(fours):
        i = 2 * x * bands
        store_word[pixel_t, word_t](out + x * bands, bands, most_frequent[word_t](
            load_word[pixel_t, word_t](a + i, bands, zero),
            load_word[pixel_t, word_t](a + i + bands, bands, zero),
            load_word[pixel_t, word_t](b + i, bands, zero),
            load_word[pixel_t, word_t](b + i + bands, bands, zero),
        ))
    # The nearest; and the mode of a last column, which is its own neighbour: there each pixel
    # counts twice, and the upper one comes first.
    for x in range(fours, (width + 1) // 2):
        store_word[pixel_t, word_t](
            out + x * bands, bands, load_word[pixel_t, word_t](a + 2 * x * bands, bands, zero)
        )


cdef void select_row(
    const pixel_t *a, const pixel_t *b, pixel_t *restrict out,
    ptrdiff_t width, ptrdiff_t bands, bint mode,
) noexcept nogil:
    if pixel_t is uint8_t:
        if bands == 1:
            select_pixels[uint8_t, uint8_t](a, b, out, width, 1, mode, 0)
        elif bands == 2:
            select_pixels[uint8_t, uint16_t](a, b, out, width, 2, mode, 0)
        elif bands == 3:
            select_pixels[uint8_t, uint32_t](a, b, out, width, 3, mode, 0)
        else:
            select_pixels[uint8_t, uint32_t](a, b, out, width, 4, mode, 0)
    elif bands == 1:
        select_pixels[uint16_t, uint16_t](a, b, out, width, 1, mode, 0)
    elif bands == 2:
        select_pixels[uint16_t, uint32_t](a, b, out, width, 2, mode, 0)
    elif bands == 3:
        select_pixels[uint16_t, uint64_t](a, b, out, width, 3, mode, 0)
    else:
        select_pixels[uint16_t, uint64_t](a, b, out, width, 4, mode, 0)


cdef void select_rows(
    const pixel_t *src, ptrdiff_t src_stride, ptrdiff_t height, ptrdiff_t width,
    ptrdiff_t bands, pixel_t *out, ptrdiff_t out_stride, bint mode,
) noexcept nogil:
    cdef ptrdiff_t y
    cdef const char *a
    cdef bint two
    for y in range((height + 1) // 2):
        a = <const char *>src + 2 * y * src_stride
        two = 2 * y + 1 < height  # else as with the last column: the left one comes first
        select_row[pixel_t](
            <const pixel_t *>a, <const pixel_t *>(a + src_stride if two else a),
            <pixel_t *>(<char *>out + y * out_stride), width, bands, mode and two,
        )


def select_8bit(const uint8_t[:, :, :] src, uint8_t[:, :, :] out, bint mode):
    with nogil:
        select_rows[uint8_t](
            &src[0, 0, 0], src.strides[0], src.shape[0], src.shape[1], src.shape[2],
            &out[0, 0, 0], out.strides[0], mode,
        )


def select_16bit(const uint16_t[:, :, :] src, uint16_t[:, :, :] out, bint mode):
    with nogil:
        select_rows[uint16_t](
            &src[0, 0, 0], src.strides[0], src.shape[0], src.shape[1], src.shape[2],
            &out[0, 0, 0], out.strides[0], mode,
        )


include "_resample_methods.pyx"


# Each packer gives whether all pixels of the tile are the same. The packed copy is compared with
# itself, one pixel further on: that ends at the first difference, and no row ends are in the way.


cdef inline bint is_uniform(const void *pixels, size_t nbytes, size_t pixel) noexcept nogil:
    return memcmp(pixels, <const char *>pixels + pixel, nbytes - pixel) == 0


cdef void pack_row_3(const uint8_t *src, uint8_t *restrict out, ptrdiff_t pixels) noexcept nogil:
    cdef ptrdiff_t x
    for x in range(simd_pack_row_3(src, out, pixels), pixels):
        out[4 * x] = src[3 * x]
        out[4 * x + 1] = src[3 * x + 1]
        out[4 * x + 2] = src[3 * x + 2]
        out[4 * x + 3] = 255


cdef void pack_row_padded(
    const uint8_t *src, uint8_t *restrict out, ptrdiff_t pixels
) noexcept nogil:
    # Words of 32 bits, so that compilers make vectors of it; the mask is right in any byte order.
    cdef uint32_t *words = <uint32_t *>out
    cdef const uint32_t *source = <const uint32_t *>src
    cdef uint8_t[4] fourth
    cdef uint32_t mask
    cdef ptrdiff_t x
    fourth[0] = fourth[1] = fourth[2] = 0
    fourth[3] = 255
    memcpy(&mask, fourth, 4)
    # The last pixel by bytes: its fourth byte may lie behind the memory of the view.
    for x in range(pixels - 1):
        store[uint32_t](words + x, load[uint32_t](source + x) | mask)
    if pixels > 0:
        memcpy(out + 4 * (pixels - 1), src + 4 * (pixels - 1), 3)
        out[4 * pixels - 1] = 255


def pack_rgbx(const uint8_t[:, :, :] src, uint8_t[:, :, ::1] out):
    cdef ptrdiff_t y, rows = src.shape[0]
    cdef bint is_padded = src.strides[1] == 4
    cdef ptrdiff_t row_bytes = (4 if is_padded else 3) * src.shape[1]
    cdef bint uniform
    with nogil:
        for y in range(rows):
            if y + PREFETCH_ROWS < rows:
                prefetch(&src[y + PREFETCH_ROWS, 0, 0], row_bytes)
            if is_padded:
                pack_row_padded(&src[y, 0, 0], &out[y, 0, 0], src.shape[1])
            else:
                pack_row_3(&src[y, 0, 0], &out[y, 0, 0], src.shape[1])
        uniform = is_uniform(&out[0, 0, 0], 4 * rows * src.shape[1], 4)
    return uniform


cdef bint copy_rows(
    const char *src, ptrdiff_t stride, ptrdiff_t rows, char *out, ptrdiff_t row_bytes,
    ptrdiff_t pixel,
) noexcept nogil:
    cdef ptrdiff_t y
    for y in range(rows):
        if y + PREFETCH_ROWS < rows:
            prefetch(src + (y + PREFETCH_ROWS) * stride, row_bytes)
        memcpy(out + y * row_bytes, src + y * stride, row_bytes)
    return is_uniform(out, rows * row_bytes, pixel)


def pack_8bit(const uint8_t[:, :, :] src, uint8_t[:, :, ::1] out):
    cdef ptrdiff_t row_bytes = src.shape[1] * src.shape[2]
    cdef bint uniform
    with nogil:
        uniform = copy_rows(
            <const char *>&src[0, 0, 0], src.strides[0], src.shape[0],
            <char *>&out[0, 0, 0], row_bytes, src.shape[2],
        )
    return uniform


def pack_16bit(const uint16_t[:, :, :] src, uint16_t[:, :, ::1] out):
    cdef ptrdiff_t row_bytes = 2 * src.shape[1] * src.shape[2]
    cdef bint uniform
    with nogil:
        uniform = copy_rows(
            <const char *>&src[0, 0, 0], src.strides[0], src.shape[0],
            <char *>&out[0, 0, 0], row_bytes, 2 * src.shape[2],
        )
    return uniform


def pack_llla(const uint8_t[:, :, :] src, uint8_t[:, :, ::1] out):
    cdef ptrdiff_t y, x
    cdef uint8_t grey
    cdef bint uniform
    with nogil:
        for y in range(src.shape[0]):
            for x in range(src.shape[1]):
                grey = src[y, x, 0]
                out[y, x, 0] = grey
                out[y, x, 1] = grey
                out[y, x, 2] = grey
                out[y, x, 3] = src[y, x, 1]
        uniform = is_uniform(&out[0, 0, 0], 4 * src.shape[0] * src.shape[1], 4)
    return uniform


cdef inline uint8_t blend(uint32_t colour, uint32_t alpha, uint32_t ground) noexcept nogil:
    return <uint8_t>((colour * alpha + ground * (255 - alpha) + 127) // 255)


def pack_flat_grey(const uint8_t[:, :, :] src, uint8_t[:, :, ::1] out, uint8_t ground):
    cdef ptrdiff_t y, x
    cdef bint uniform
    with nogil:
        for y in range(src.shape[0]):
            for x in range(src.shape[1]):
                out[y, x, 0] = blend(src[y, x, 0], src[y, x, 1], ground)
        uniform = is_uniform(&out[0, 0, 0], src.shape[0] * src.shape[1], 1)
    return uniform


def pack_flat_rgbx(
    const uint8_t[:, :, :] src, uint8_t[:, :, ::1] out, uint8_t red, uint8_t green, uint8_t blue
):
    cdef ptrdiff_t y, x
    cdef const uint8_t *pixel
    cdef bint uniform
    with nogil:
        for y in range(src.shape[0]):
            for x in range(src.shape[1]):
                pixel = &src[y, x, 0]
                out[y, x, 0] = blend(pixel[0], pixel[3], red)
                out[y, x, 1] = blend(pixel[1], pixel[3], green)
                out[y, x, 2] = blend(pixel[2], pixel[3], blue)
                out[y, x, 3] = 255
        uniform = is_uniform(&out[0, 0, 0], 4 * src.shape[0] * src.shape[1], 4)
    return uniform


def rgbx_to_rgb(const uint8_t[:, :, ::1] src, uint8_t[:, :, ::1] out):
    cdef ptrdiff_t i
    cdef const uint8_t *pixel = &src[0, 0, 0]
    cdef uint8_t *to = &out[0, 0, 0]
    with nogil:
        for i in range(src.shape[0] * src.shape[1]):
            to[3 * i] = pixel[4 * i]
            to[3 * i + 1] = pixel[4 * i + 1]
            to[3 * i + 2] = pixel[4 * i + 2]


cdef ptrdiff_t count_equal(const word_t *words, ptrdiff_t count) noexcept nogil:
    cdef ptrdiff_t i
    cdef uint32_t alike = 0  # narrow enough for vectors; a tile has fewer pixels than 2^32
    for i in range(count - 1):
        alike += load[word_t](words + i) == load[word_t](words + i + 1)
    return alike


def count_repeats(const uint8_t[:, ::1] rows, Py_ssize_t pixel):
    # The last pixel of a row counts as the left neighbour of the next row's first.
    cdef ptrdiff_t alike, count = rows.shape[0] * rows.shape[1] // pixel
    with nogil:
        if pixel == 1:
            alike = count_equal[uint8_t](&rows[0, 0], count)
        elif pixel == 2:
            alike = count_equal[uint16_t](<const uint16_t *>&rows[0, 0], count)
        else:
            alike = count_equal[uint32_t](<const uint32_t *>&rows[0, 0], count)
    return alike
