/* Every function of _resample_simd.h against the rule that it must keep, pixel by pixel.
 *
 * Rows of 0 to 100 pixels touch the inaccessible page behind them, or the one before. Prints the variant
 * and the number of rows; ends with 1 at the first byte that is wrong, by SIGSEGV at the first byte outside.
 */
#define _DEFAULT_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "_resample_simd.h"

#define WIDEST 100 /* pixels of the smaller row */
#define UNTOUCHED 0xA5

static ptrdiff_t page;

/* A page between two inaccessible ones. */
static uint8_t *guarded_page(void)
{
    uint8_t *pages = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages, page, PROT_NONE) ||
        mprotect(pages + 2 * page, page, PROT_NONE)) {
        perror("guarded_page");
        exit(2);
    }
    return pages + page;
}

enum kernel { HALVE_1, HALVE_3, HALVE_4, HALVE_OPAQUE, PREMULTIPLIED, PACK, KERNELS };

static const char *const names[] = {"simd_halve_row_1", "simd_halve_row_3", "simd_halve_row_4",
                                    "simd_halve_row_4 with alpha", "simd_premultiplied_row_4",
                                    "simd_pack_row_3"};
static const ptrdiff_t bands_in[] = {1, 3, 4, 4, 4, 3}, bands_out[] = {1, 3, 4, 4, 4, 4};

static ptrdiff_t run(enum kernel kernel, const uint8_t *a, const uint8_t *b, uint8_t *out,
                     ptrdiff_t pixels)
{
    switch (kernel) {
    case HALVE_1: return simd_halve_row_1(a, b, out, pixels);
    case HALVE_3: return simd_halve_row_3(a, b, out, pixels);
    case HALVE_4: return simd_halve_row_4(a, b, out, pixels, 0);
    case HALVE_OPAQUE: return simd_halve_row_4(a, b, out, pixels, 1);
    case PREMULTIPLIED: return simd_premultiplied_row_4(a, b, out, pixels);
    default: return simd_pack_row_3(a, out, pixels);
    }
}

/* One byte of the result, by the rule. */
static uint8_t expected(enum kernel kernel, const uint8_t *a, const uint8_t *b, ptrdiff_t x,
                        ptrdiff_t band)
{
    if (kernel == PACK)
        return band == 3 ? 255 : a[3 * x + band];
    ptrdiff_t bands = bands_in[kernel];
    const uint8_t *four[] = {a + 2 * x * bands, a + (2 * x + 1) * bands, b + 2 * x * bands,
                             b + (2 * x + 1) * bands};
    unsigned sum = 0, weighted = 0, weight = 0;
    for (int i = 0; i < 4; i++) {
        sum += four[i][band];
        weighted += four[i][band] * four[i][bands - 1];
        weight += four[i][bands - 1];
    }
    if (kernel == PREMULTIPLIED && band < 3)
        return weight ? (weighted + weight / 2) / weight : 0;
    return (sum + 2) / 4;
}

static int is_opaque(const uint8_t *row, ptrdiff_t pixels)
{
    for (ptrdiff_t x = 0; x < pixels; x++)
        if (row[4 * x + 3] != 255)
            return 0;
    return 1;
}

/* Bytes at random, or from the ends of the range; alpha is 255 but for a share of `holes`/256. */
static void fill(uint8_t *row, ptrdiff_t bytes, int extremes, int alpha, int holes)
{
    static const uint8_t ends[] = {0, 1, 2, 127, 128, 253, 254, 255};
    for (ptrdiff_t i = 0; i < bytes; i++) {
        row[i] = extremes ? ends[rand() % 8] : rand() % 256;
        if (alpha && i % 4 == 3 && rand() % 256 >= holes)
            row[i] = 255;
    }
}

/* Run a kernel on rows that touch one end of their pages, and look at every byte of the result's page. */
static void check(enum kernel kernel, uint8_t *const pages[3], ptrdiff_t pixels, int round)
{
    static const int holes[] = {0, 1, 8, 128, 256};
    const char *name = names[kernel];
    ptrdiff_t bands = bands_out[kernel], length = pixels * bands;
    ptrdiff_t in = pixels * bands_in[kernel] * (kernel == PACK ? 1 : 2);
    int at_end = round % 2, has_alpha = bands_in[kernel] == 4;
    uint8_t *a = pages[0] + (at_end ? page - in : 0), *b = pages[1] + (at_end ? page - in : 0);
    uint8_t *out = pages[2] + (at_end ? page - length : 0);
    fill(a, in, round / 2 % 2, has_alpha, holes[round / 4 % 5]);
    fill(b, in, round / 2 % 2, has_alpha, holes[round / 4 % 5]);
    memset(pages[2], UNTOUCHED, page);

    ptrdiff_t done = run(kernel, a, b, out, pixels);
    int stops = kernel == HALVE_OPAQUE && !(is_opaque(a, 2 * pixels) && is_opaque(b, 2 * pixels));
    if (done < 0 || done > pixels || (pixels - done >= 32 && !stops)) {
        printf("%s: %td of %td pixels\n", name, done, pixels);
        exit(1);
    }
    if (kernel == HALVE_OPAQUE && !(is_opaque(a, 2 * done) && is_opaque(b, 2 * done))) {
        printf("%s: takes what is not opaque\n", name);
        exit(1);
    }
    for (ptrdiff_t i = pages[2] - out; i < pages[2] + page - out; i++) {
        uint8_t wanted = UNTOUCHED;
        if (i >= 0 && i < done * bands)
            wanted = expected(kernel, a, b, i / bands, i % bands);
        if (out[i] != wanted) {
            printf("%s: %td pixels: byte %td is %d, not %d\n", name, pixels, i, out[i], wanted);
            exit(1);
        }
    }
}

int main(void)
{
    page = sysconf(_SC_PAGESIZE);
    uint8_t *const pages[] = {guarded_page(), guarded_page(), guarded_page()};
    int rows = 0;
    for (int kernel = 0; kernel < KERNELS; kernel++)
        for (ptrdiff_t pixels = 0; pixels <= WIDEST; pixels++)
            for (int round = 0; round < 20; round++, rows++)
                check(kernel, pages, pixels, round);
    printf("%s %d\n", FASTTILE_VARIANT, rows);
    return 0;
}
