/* A head start for the row kernels: as many pixels as full vectors cover, the caller does the rest.
 *
 * Each function gives the number of pixels that it wrote, which is 0 where this file is built
 * neither with AVX2 nor for NEON. None reads or writes a byte outside of the row that it is given.
 */
#ifndef FASTTILE_RESAMPLE_SIMD_H
#define FASTTILE_RESAMPLE_SIMD_H

#include <stddef.h>
#include <stdint.h>

#if defined(_M_X64)
#include <windows.h>
#endif

#if defined(__AVX2__)
#include <immintrin.h>

#define FASTTILE_VARIANT "avx2"

/* Two runs of 16 bytes, one in each lane. */
static inline __m256i two_lanes(const uint8_t *low, const uint8_t *high)
{
    return _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)low)),
        _mm_loadu_si128((const __m128i *)high), 1);
}

/* Sums of neighbouring bytes of both rows, rounded and divided by four, as 16-bit values. */
static inline __m256i mean_of_pairs(__m256i a, __m256i b)
{
    const __m256i ones = _mm256_set1_epi8(1);
    __m256i sum = _mm256_add_epi16(_mm256_maddubs_epi16(a, ones), _mm256_maddubs_epi16(b, ones));
    return _mm256_srli_epi16(_mm256_add_epi16(sum, _mm256_set1_epi16(2)), 2);
}

static inline ptrdiff_t simd_halve_row_1(const uint8_t *a, const uint8_t *b, uint8_t *out,
                                         ptrdiff_t pixels)
{
    ptrdiff_t x = 0;
    for (; x + 32 <= pixels; x += 32) {
        __m256i low = mean_of_pairs(_mm256_loadu_si256((const __m256i *)(a + 2 * x)),
                                    _mm256_loadu_si256((const __m256i *)(b + 2 * x)));
        __m256i high = mean_of_pairs(_mm256_loadu_si256((const __m256i *)(a + 2 * x + 32)),
                                     _mm256_loadu_si256((const __m256i *)(b + 2 * x + 32)));
        __m256i packed = _mm256_packus_epi16(low, high);
        _mm256_storeu_si256((__m256i *)(out + x),
                            _mm256_permute4x64_epi64(packed, _MM_SHUFFLE(3, 1, 2, 0)));
    }
    return x;
}

/* Eight pixels at a time. A lane takes four source pixels (12 of the 16 bytes that it loads),
 * lays the two neighbours of each band side by side, and gives two pixels. */
static inline ptrdiff_t simd_halve_row_3(const uint8_t *a, const uint8_t *b, uint8_t *out,
                                         ptrdiff_t pixels)
{
    const __m256i side_by_side = _mm256_setr_epi8(
        0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11, -1, -1, -1, -1,
        0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11, -1, -1, -1, -1);
    const __m256i close_gaps = _mm256_setr_epi8(
        0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, -1, -1, -1, -1,
        0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, -1, -1, -1, -1);
    const __m256i join_lanes = _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 7, 7);
    ptrdiff_t x = 0;
    /* 48 bytes are used and 52 are read: one more pixel must be there. */
    for (; x + 9 <= pixels; x += 8) {
        const uint8_t *p = a + 6 * x, *q = b + 6 * x;
        __m256i first = mean_of_pairs(_mm256_shuffle_epi8(two_lanes(p, p + 24), side_by_side),
                                      _mm256_shuffle_epi8(two_lanes(q, q + 24), side_by_side));
        __m256i second = mean_of_pairs(
            _mm256_shuffle_epi8(two_lanes(p + 12, p + 36), side_by_side),
            _mm256_shuffle_epi8(two_lanes(q + 12, q + 36), side_by_side));
        __m256i packed = _mm256_shuffle_epi8(_mm256_packus_epi16(first, second), close_gaps);
        packed = _mm256_permutevar8x32_epi32(packed, join_lanes);
        _mm_storeu_si128((__m128i *)(out + 3 * x), _mm256_castsi256_si128(packed));
        _mm_storel_epi64((__m128i *)(out + 3 * x + 16), _mm256_extracti128_si256(packed, 1));
    }
    return x;
}

/* Four bands without regard to alpha, eight pixels at a time. With `alpha` it goes on only as
 * long as all source pixels are opaque, where weighted and plain means are the same. */
static inline ptrdiff_t simd_halve_row_4(const uint8_t *a, const uint8_t *b, uint8_t *out,
                                         ptrdiff_t pixels, int alpha)
{
    const __m256i side_by_side = _mm256_setr_epi8(
        0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15,
        0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
    const __m256i colours = _mm256_set1_epi32(0x00ffffff);
    const __m256i all_ones = _mm256_set1_epi32(-1);
    ptrdiff_t x = 0;
    for (; x + 8 <= pixels; x += 8) {
        __m256i a0 = _mm256_loadu_si256((const __m256i *)(a + 8 * x));
        __m256i a1 = _mm256_loadu_si256((const __m256i *)(a + 8 * x + 32));
        __m256i b0 = _mm256_loadu_si256((const __m256i *)(b + 8 * x));
        __m256i b1 = _mm256_loadu_si256((const __m256i *)(b + 8 * x + 32));
        if (alpha) {
            __m256i all = _mm256_and_si256(_mm256_and_si256(a0, a1), _mm256_and_si256(b0, b1));
            if (!_mm256_testc_si256(_mm256_or_si256(all, colours), all_ones))
                break;
        }
        __m256i low = mean_of_pairs(_mm256_shuffle_epi8(a0, side_by_side),
                                    _mm256_shuffle_epi8(b0, side_by_side));
        __m256i high = mean_of_pairs(_mm256_shuffle_epi8(a1, side_by_side),
                                     _mm256_shuffle_epi8(b1, side_by_side));
        __m256i packed = _mm256_packus_epi16(low, high);
        _mm256_storeu_si256((__m256i *)(out + 4 * x),
                            _mm256_permute4x64_epi64(packed, _MM_SHUFFLE(3, 1, 2, 0)));
    }
    return x;
}

/* Two pixels at a time, weighted by their alpha. The quotient is exact though it is taken in floats: the
 * numerator is below 2^18 + 2^10 and the divisor at most 1020, so a quotient that is no integral
 * number lies further from the next one than a float's rounding reaches. */
static inline ptrdiff_t simd_premultiplied_row_4(const uint8_t *a, const uint8_t *b, uint8_t *out,
                                         ptrdiff_t pixels)
{
    const __m256i alpha_everywhere = _mm256_setr_epi8(
        6, 7, 6, 7, 6, 7, 6, 7, 14, 15, 14, 15, 14, 15, 14, 15,
        6, 7, 6, 7, 6, 7, 6, 7, 14, 15, 14, 15, 14, 15, 14, 15);
    const __m256i low_bytes = _mm256_setr_epi8(
        0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
        0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const __m256i one = _mm256_set1_epi16(1), zero = _mm256_setzero_si256();
    ptrdiff_t x = 0;
    for (; x + 2 <= pixels; x += 2) {
        /* Four source pixels of each row as 16-bit values, times their alpha (alpha times 1). */
        __m256i p = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(a + 8 * x)));
        __m256i q = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(b + 8 * x)));
        __m256i p_weight = _mm256_shuffle_epi8(p, alpha_everywhere);
        __m256i q_weight = _mm256_shuffle_epi8(q, alpha_everywhere);
        p = _mm256_mullo_epi16(p, _mm256_blend_epi16(p_weight, one, 0x88));
        q = _mm256_mullo_epi16(q, _mm256_blend_epi16(q_weight, one, 0x88));
        __m256i sum = _mm256_add_epi32(
            _mm256_add_epi32(_mm256_unpacklo_epi16(p, zero), _mm256_unpackhi_epi16(p, zero)),
            _mm256_add_epi32(_mm256_unpacklo_epi16(q, zero), _mm256_unpackhi_epi16(q, zero)));
        __m256i weight = _mm256_shuffle_epi32(sum, 0xff);
        __m256i numerator = _mm256_add_epi32(sum, _mm256_srli_epi32(weight, 1));
        __m256i divisor = _mm256_max_epi32(weight, _mm256_set1_epi32(1));
        __m256i colour = _mm256_cvttps_epi32(
            _mm256_div_ps(_mm256_cvtepi32_ps(numerator), _mm256_cvtepi32_ps(divisor)));
        __m256i alpha = _mm256_srli_epi32(_mm256_add_epi32(weight, _mm256_set1_epi32(2)), 2);
        __m256i pixel = _mm256_shuffle_epi8(_mm256_blend_epi32(colour, alpha, 0x88), low_bytes);
        __m128i both = _mm_unpacklo_epi32(_mm256_castsi256_si128(pixel),
                                          _mm256_extracti128_si256(pixel, 1));
        _mm_storel_epi64((__m128i *)(out + 4 * x), both);
    }
    return x;
}

/* Three bands to four, the fourth 255: eight pixels at a time. */
static inline ptrdiff_t simd_pack_row_3(const uint8_t *in, uint8_t *out, ptrdiff_t pixels)
{
    const __m256i spread = _mm256_setr_epi8(
        0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1,
        0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1);
    const __m256i fourth = _mm256_set1_epi32((int)0xff000000);
    ptrdiff_t x = 0;
    /* 24 bytes are used and 28 are read: two more pixels must be there. */
    for (; x + 10 <= pixels; x += 8) {
        __m256i four = _mm256_shuffle_epi8(two_lanes(in + 3 * x, in + 3 * x + 12), spread);
        _mm256_storeu_si256((__m256i *)(out + 4 * x), _mm256_or_si256(four, fourth));
    }
    return x;
}

#elif defined(FASTTILE_NEON) && (defined(__aarch64__) || defined(_M_ARM64))

#if defined(_M_ARM64) && !defined(__clang__)
#include <arm64_neon.h>
#else
#include <arm_neon.h>
#endif

#define FASTTILE_VARIANT "neon"

/* Sums of neighbouring bytes of both rows, rounded and divided by four. */
static inline uint8x8_t mean_of_pairs(uint8x16_t a, uint8x16_t b)
{
    return vrshrn_n_u16(vpadalq_u8(vpaddlq_u8(a), b), 2);
}

static inline ptrdiff_t simd_halve_row_1(const uint8_t *a, const uint8_t *b, uint8_t *out,
                                         ptrdiff_t pixels)
{
    ptrdiff_t x = 0;
    for (; x + 16 <= pixels; x += 16) {
        uint8x8_t low = mean_of_pairs(vld1q_u8(a + 2 * x), vld1q_u8(b + 2 * x));
        uint8x8_t high = mean_of_pairs(vld1q_u8(a + 2 * x + 16), vld1q_u8(b + 2 * x + 16));
        vst1q_u8(out + x, vcombine_u8(low, high));
    }
    return x;
}

static inline ptrdiff_t simd_halve_row_3(const uint8_t *a, const uint8_t *b, uint8_t *out,
                                         ptrdiff_t pixels)
{
    ptrdiff_t x = 0;
    for (; x + 8 <= pixels; x += 8) {
        uint8x16x3_t p = vld3q_u8(a + 6 * x), q = vld3q_u8(b + 6 * x);
        uint8x8x3_t means;
        for (int band = 0; band < 3; band++)
            means.val[band] = mean_of_pairs(p.val[band], q.val[band]);
        vst3_u8(out + 3 * x, means);
    }
    return x;
}

/* As above: with `alpha` it goes on only as long as all source pixels are opaque. */
static inline ptrdiff_t simd_halve_row_4(const uint8_t *a, const uint8_t *b, uint8_t *out,
                                         ptrdiff_t pixels, int alpha)
{
    ptrdiff_t x = 0;
    for (; x + 8 <= pixels; x += 8) {
        uint8x16x4_t p = vld4q_u8(a + 8 * x), q = vld4q_u8(b + 8 * x);
        uint8x8x4_t means;
        if (alpha && vminvq_u8(vandq_u8(p.val[3], q.val[3])) != 255)
            break;
        for (int band = 0; band < 4; band++)
            means.val[band] = mean_of_pairs(p.val[band], q.val[band]);
        vst4_u8(out + 4 * x, means);
    }
    return x;
}

/* A colour of four pixels, from the products of colour and alpha in both rows; exact, see above. */
static inline uint16x4_t weighted_mean(uint16x8_t p, uint16x8_t q, uint32x4_t weight)
{
    uint32x4_t numerator = vsraq_n_u32(vpadalq_u16(vpaddlq_u16(p), q), weight, 1);
    float32x4_t divisor = vcvtq_f32_u32(vmaxq_u32(weight, vdupq_n_u32(1)));
    return vmovn_u32(vcvtq_u32_f32(vdivq_f32(vcvtq_f32_u32(numerator), divisor)));
}

static inline ptrdiff_t simd_premultiplied_row_4(const uint8_t *a, const uint8_t *b, uint8_t *out,
                                         ptrdiff_t pixels)
{
    ptrdiff_t x = 0;
    for (; x + 8 <= pixels; x += 8) {
        uint8x16x4_t p = vld4q_u8(a + 8 * x), q = vld4q_u8(b + 8 * x);
        uint16x8_t weights = vpadalq_u8(vpaddlq_u8(p.val[3]), q.val[3]);
        uint32x4_t low_weight = vmovl_u16(vget_low_u16(weights));
        uint32x4_t high_weight = vmovl_u16(vget_high_u16(weights));
        uint8x8x4_t means;
        for (int band = 0; band < 3; band++) {
            uint16x4_t low = weighted_mean(
                vmull_u8(vget_low_u8(p.val[band]), vget_low_u8(p.val[3])),
                vmull_u8(vget_low_u8(q.val[band]), vget_low_u8(q.val[3])), low_weight);
            uint16x4_t high = weighted_mean(
                vmull_u8(vget_high_u8(p.val[band]), vget_high_u8(p.val[3])),
                vmull_u8(vget_high_u8(q.val[band]), vget_high_u8(q.val[3])), high_weight);
            means.val[band] = vmovn_u16(vcombine_u16(low, high));
        }
        means.val[3] = vrshrn_n_u16(weights, 2);
        vst4_u8(out + 4 * x, means);
    }
    return x;
}

static inline ptrdiff_t simd_pack_row_3(const uint8_t *in, uint8_t *out, ptrdiff_t pixels)
{
    ptrdiff_t x = 0;
    for (; x + 16 <= pixels; x += 16) {
        uint8x16x3_t colours = vld3q_u8(in + 3 * x);
        uint8x16x4_t packed;
        for (int band = 0; band < 3; band++)
            packed.val[band] = colours.val[band];
        packed.val[3] = vdupq_n_u8(255);
        vst4q_u8(out + 4 * x, packed);
    }
    return x;
}

#else

#define FASTTILE_VARIANT "plain"

static inline ptrdiff_t simd_halve_row_1(const uint8_t *a, const uint8_t *b, uint8_t *out,
                                         ptrdiff_t pixels)
{
    (void)a, (void)b, (void)out, (void)pixels;
    return 0;
}

static inline ptrdiff_t simd_halve_row_3(const uint8_t *a, const uint8_t *b, uint8_t *out,
                                         ptrdiff_t pixels)
{
    (void)a, (void)b, (void)out, (void)pixels;
    return 0;
}

static inline ptrdiff_t simd_halve_row_4(const uint8_t *a, const uint8_t *b, uint8_t *out,
                                         ptrdiff_t pixels, int alpha)
{
    (void)a, (void)b, (void)out, (void)pixels, (void)alpha;
    return 0;
}

static inline ptrdiff_t simd_premultiplied_row_4(const uint8_t *a, const uint8_t *b, uint8_t *out,
                                         ptrdiff_t pixels)
{
    (void)a, (void)b, (void)out, (void)pixels;
    return 0;
}

static inline ptrdiff_t simd_pack_row_3(const uint8_t *in, uint8_t *out, ptrdiff_t pixels)
{
    (void)in, (void)out, (void)pixels;
    return 0;
}

#endif

/* Tiles are read row by row out of rows that lie pages apart, which no processor foresees. */
#define PREFETCH_ROWS 4

static inline void prefetch(const void *start, ptrdiff_t bytes)
{
#if defined(__GNUC__) || defined(__clang__)
    for (ptrdiff_t i = 0; i < bytes; i += 64)
        __builtin_prefetch((const char *)start + i);
#else
    (void)start, (void)bytes;
#endif
}

/* The fastest variant that this processor can run: "avx2", "neon" or "plain". */
static inline const char *fastest_variant(void)
{
#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
    return __builtin_cpu_supports("avx2") ? "avx2" : "plain";
#elif defined(_M_X64)
    return IsProcessorFeaturePresent(40) ? "avx2" : "plain"; /* PF_AVX2_INSTRUCTIONS_AVAILABLE */
#elif defined(__aarch64__) || defined(_M_ARM64)
    return "neon"; /* each of them has it */
#else
    return "plain";
#endif
}

#endif
