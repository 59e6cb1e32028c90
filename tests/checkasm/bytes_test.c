/* Every kernel on bytes beside its reference: all are exact, so results are the same bytes. */
#include <string.h>

#include "check.h"
#include "kernels/kernels.h"

enum {
    GUARD = 64,
    MOST_RUNS = 4,
    MOST_QUADS = 40,
    MOST_DEPTH = MOST_QUADS * 4,
    OUT = WE_TILE_ROWS * (WE_TILE_COLUMNS + 3),
    CHANNELS = 200,
    OUTPUTS = 9,
    ROW = 64 * CHANNELS,
};

static void fill(void *to, size_t n) {
    uint8_t *bytes = to;
    int extreme = check_below(4) == 0; /* what saturates where sums are not wide enough */
    for (size_t i = 0; i < n; i++)
        bytes[i] =
            extreme ? (check_below(2) ? 0x80 : 0x7f) ^ (check_below(2) ? 0x80 : 0) : (uint8_t)check_random();
}

/* Factors near what makes bytes of the sums, so that not all are at the limits; some results lie between two.
 */
static void fill_factors(float *to, int n, double least) {
    for (int i = 0; i < n; i++)
        to[i] = (float)(least * (check_below(4) ? 1 + (double)check_below(1000) / 100 : 0.5));
}

static we_byte_range some_range(void) {
    int32_t zero = (int32_t)check_below(256) - (check_below(2) ? 128 : 0);
    int32_t lowest = zero < 0 ? -128 : 0, low = lowest - zero + (int32_t)check_below(3) * 20;
    return (we_byte_range){(float)low, (float)(lowest + 255 - zero), zero};
}

static void check_same(const char *name, const uint8_t *got, const uint8_t *want, size_t n) {
    for (size_t i = 0; i < n; i++)
        CHECK(got[i] == want[i], "%s: byte %zu is %d, not %d", name, i, got[i], want[i]);
}

/* ---- Products ---- */

typedef struct product {
    uint8_t a[MOST_RUNS * WE_TILE_ROWS * MOST_DEPTH];
    int8_t plain[MOST_RUNS * MOST_DEPTH][WE_TILE_COLUMNS];
    int32_t start[WE_TILE_COLUMNS];
    float factor[WE_TILE_COLUMNS], shift[WE_TILE_COLUMNS];
    uint8_t added[OUT];
    int64_t runs, quads, ldc;
    int32_t m, n;
    we_requantise how;
    we_byte_sum then;
    int result; /* 0: int32, 1: bytes, 2: with a sum */
} product;

static void pack(const product *p, int32_t columns, int32_t from, int8_t *to) {
    for (int64_t q = 0; q < p->runs * p->quads; q++) {
        for (int32_t j = 0; j < columns; j++, to += 4) {
            for (int64_t e = 0; e < 4; e++)
                to[e] = from + j < p->n ? p->plain[q * 4 + e][from + j] : 0;
        }
    }
}

/* All of the product by tiles of one kernel. */
static void run(const product *p, const we_byte_matmul *kernel, uint8_t *bytes, int32_t *sums) {
    static int8_t b[MOST_RUNS * MOST_DEPTH * WE_TILE_COLUMNS];
    const uint8_t *rows[MOST_RUNS * WE_TILE_ROWS];
    for (int32_t j = 0; j < p->n; j += kernel->columns) {
        pack(p, kernel->columns, j, b);
        we_requantise how = {p->factor + j, p->how.shift ? p->shift + j : NULL, p->how.range};
        for (int32_t i = 0; i < p->m; i += kernel->rows) {
            we_byte_tile t = {.runs = p->runs, .quads = p->quads, .rows = rows, .b = b, .ldc = p->ldc};
            t.m = p->m - i < kernel->rows ? p->m - i : kernel->rows;
            t.n = p->n - j < kernel->columns ? p->n - j : kernel->columns;
            t.start = p->start + j;
            t.ahead = b;
            t.how = &how;
            t.then = &p->then;
            int64_t at = i * p->ldc + j;
            t.sums = p->result == 0 ? sums + at : NULL;
            t.c = bytes + at;
            t.added = p->result == 2 ? p->added + at : NULL;
            for (int64_t r = 0; r < p->runs; r++) {
                for (int32_t row = 0; row < t.m; row++)
                    rows[r * t.m + row] = p->a + (r * WE_TILE_ROWS + i + row) * MOST_DEPTH + (i + row) % 3;
            }
            kernel->kernel(&t);
        }
    }
}

static void make(product *p, const we_byte_matmul *kernel) {
    fill(p->a, sizeof p->a);
    fill(p->plain, sizeof p->plain);
    fill(p->added, sizeof p->added);
    p->runs = 1 + check_below(MOST_RUNS);
    p->quads = check_below(MOST_QUADS);
    p->m = 1 + (int32_t)check_below(kernel->rows);
    p->n = 1 + (int32_t)check_below(kernel->columns);
    p->ldc = p->n + check_below(3);
    p->result = (int)check_below(3);
    for (int j = 0; j < WE_TILE_COLUMNS; j++) {
        p->start[j] = (int32_t)check_below(40000) - 20000;
        p->shift[j] = (float)check_below(100) / 2 - 25;
    }
    fill_factors(p->factor, WE_TILE_COLUMNS, 1.0 / 8192);
    p->how = (we_requantise){.shift = check_below(2) ? p->shift : NULL, .range = some_range()};
    p->then = (we_byte_sum){.b_zero = (int32_t)check_below(256),
                            .a_factor = (float)(1 + check_below(4)) / 4,
                            .b_factor = (float)(1 + check_below(7)) / 8,
                            .b_flip = check_below(2) ? 0x80 : 0,
                            .range = some_range()};
}

static void check_matmul(const we_byte_matmul *kernel) {
    static const we_byte_matmul REF = {"ref", WE_ISA_REF, 4, 4, false, we_u8_byte_matmul_4x4__ref};
    static product p, seen;
    static uint8_t got[OUT + GUARD], want[OUT + GUARD];
    static int32_t sums[OUT + GUARD], wanted[OUT + GUARD];
    for (int round = 0; round < 600; round++) {
        make(&p, kernel);
        seen = p;
        for (size_t i = 0; kernel->signed_rows && i < sizeof p.a; i++) /* the same numbers less 128 */
            seen.a[i] ^= 0x80;
        for (int j = 0; kernel->signed_rows && j < p.n; j++) {
            for (int64_t k = 0; k < p.runs * p.quads * 4; k++)
                seen.start[j] += 128 * p.plain[k][j];
        }
        seen.how.shift = p.how.shift ? seen.shift : NULL;
        fill(got, sizeof got);
        memcpy(want, got, sizeof got);
        fill(sums, sizeof sums);
        memcpy(wanted, sums, sizeof sums);
        run(&p, &REF, want, wanted);
        run(&seen, kernel, got, sums);
        check_same(kernel->name, got, want, sizeof got);
        check_same(kernel->name, (const uint8_t *)sums, (const uint8_t *)wanted, sizeof sums);
    }
}

/* ---- Depthwise filters ---- */

static void check_depthwise(const char *name, we_byte_depthwise_kernel kernel) {
    static uint8_t x[5][ROW], got[OUTPUTS * (CHANNELS + 2) + GUARD], want[sizeof got];
    static int8_t weights[25 * CHANNELS];
    static int32_t start[CHANNELS];
    static float factor[CHANNELS], shift[CHANNELS];
    for (int round = 0; round < 400; round++) {
        int usual = check_below(3) > 0; /* three by three */
        we_byte_depthwise d = {.channels = 1 + check_below(CHANNELS),
                               .count = check_below(OUTPUTS + 1),
                               .row_count = usual ? 3 : 1 + (int32_t)check_below(5),
                               .columns = usual ? 3 : 1 + (int32_t)check_below(5),
                               .flip = check_below(2) ? 0x80 : 0,
                               .weights = weights,
                               .start = start};
        const uint8_t *rows[5];
        d.x_column = d.channels * (1 + check_below(2));
        d.x_step = d.x_column * (1 + check_below(3));
        d.x_step = d.x_step + check_below(2) * d.channels;
        d.y_step = d.channels + check_below(3);
        for (int r = 0; r < 5; r++)
            rows[r] = x[r] + check_below(3);
        fill(x, sizeof x);
        fill(weights, sizeof weights);
        for (int c = 0; c < CHANNELS; c++) {
            start[c] = (int32_t)check_below(40000) - 20000;
            shift[c] = (float)check_below(100) / 2 - 25;
        }
        fill_factors(factor, CHANNELS, 1.0 / 1024);
        d.how = (we_requantise){factor, check_below(2) ? shift : NULL, some_range()};
        fill(got, sizeof got);
        memcpy(want, got, sizeof got);
        we_u8_byte_depthwise__ref(&d, rows, want);
        kernel(&d, rows, got);
        check_same(name, got, want, sizeof got);
    }
}

/* ---- Rows ---- */

enum { LONGEST = 300 };

static void check_elements(const char *name, const we_byte_rows *rows, const we_byte_rows *ref, int64_t n) {
    static float x[LONGEST + 1];
    static uint8_t a[LONGEST + 1], b[LONGEST + 1], got[LONGEST + GUARD], want[LONGEST + GUARD];
    static int32_t ints[LONGEST + 1];
    const we_byte_range range = some_range();
    const int64_t skew = check_below(2);
    const uint8_t flip = check_below(2) ? 0x80 : 0;
    fill(a, sizeof a);
    fill(b, sizeof b);
    fill(got, sizeof got);
    memcpy(want, got, sizeof got);
    for (int i = 0; i <= LONGEST; i++) {
        x[i] = (float)(check_below(2000) - 1000) / 4;
        ints[i] = (int32_t)check_below(2000) - 1000;
    }
    x[check_below(LONGEST)] = check_below(2) ? __builtin_inff() : -1e30f;
    rows->quantise(n, 0.5f, &range, x + skew, got + skew);
    ref->quantise(n, 0.5f, &range, x + skew, want + skew);
    check_same(name, got, want, sizeof got);
    rows->requantise(n, 0.25f, &range, ints + skew, got);
    ref->requantise(n, 0.25f, &range, ints + skew, want);
    check_same(name, got, want, sizeof got);
    const we_byte_sum sum = {
        (int32_t)check_below(256), (int32_t)check_below(256), 0.25f, 0.75f, flip, flip ^ 0x80, range};
    rows->add(n, &sum, a + skew, b, got);
    ref->add(n, &sum, a + skew, b, want);
    check_same(name, got, want, sizeof got);
    const int64_t each = n / 3, step = each + check_below(2);
    rows->largest(each, 3, flip, a + skew, each, got, step);
    ref->largest(each, 3, flip, a + skew, each, want, step);
    check_same(name, got, want, sizeof got);
}

static void check_sums(const char *name, const we_byte_rows *rows, const we_byte_rows *ref, int64_t n) {
    static uint8_t x[8 * LONGEST];
    static float y[2][LONGEST + GUARD];
    int32_t got[LONGEST + GUARD] = {0}, want[LONGEST + GUARD] = {0};
    const uint8_t flip = check_below(2) ? 0x80 : 0;
    const int64_t count = check_below(8);
    const int32_t zero = (int32_t)check_below(256);
    fill(x, sizeof x);
    rows->sum(n, count, LONGEST, flip, x, got);
    ref->sum(n, count, LONGEST, flip, x, want);
    check_same(name, (const uint8_t *)got, (const uint8_t *)want, sizeof got);
    memset(y, 0, sizeof y);
    rows->dequantise(n, zero, flip, 0.37f, x, y[0]);
    ref->dequantise(n, zero, flip, 0.37f, x, y[1]);
    check_same(name, (const uint8_t *)y[0], (const uint8_t *)y[1], sizeof y[0]);
}

static void check_rows(const char *name, const we_byte_rows *rows) {
    we_kernels plain;
    we_kernels_fill(1u << WE_ISA_REF, &plain);
    for (int64_t n = 0; n < LONGEST; n += 1 + check_below(5)) {
        check_elements(name, rows, &plain.byte_rows, n);
        check_sums(name, rows, &plain.byte_rows, n);
    }
}

int main(int argc, char **argv) {
    const we_kernels *kernels;
    check_seed(argc, argv);
    if (we_kernels_get(&kernels, NULL) != WE_OK)
        return 1;
#define WE_BYTE_MATMUL_KERNEL_ROW(ISA, isa_, rows, columns, signed_rows)                                     \
    if (kernels->isas >> WE_ISA_##ISA & 1) {                                                                 \
        const we_byte_matmul row = {                                                                         \
            "we_u8_byte_matmul_" #rows "x" #columns "__" #isa_, WE_ISA_##ISA, rows, columns, signed_rows,    \
            we_u8_byte_matmul_##rows##x##columns##__##isa_};                                                 \
        check_matmul(&row);                                                                                  \
    }
#include "kernels/byte_matmul.inc"
#define WE_BYTE_DEPTHWISE_KERNEL_ROW(ISA, isa)                                                               \
    if (kernels->isas >> WE_ISA_##ISA & 1)                                                                   \
        check_depthwise("we_u8_byte_depthwise__" #isa, we_u8_byte_depthwise__##isa);
#include "kernels/byte_depthwise.inc"
#define WE_BYTE_ROWS_KERNEL_ROW(ISA, isa)                                                                    \
    if (kernels->isas >> WE_ISA_##ISA & 1) {                                                                 \
        we_kernels upto;                                                                                     \
        we_kernels_fill(kernels->isas & ((2u << WE_ISA_##ISA) - 1), &upto);                                  \
        check_rows("we_u8_rows_*__" #isa, &upto.byte_rows);                                                  \
    }
#include "kernels/byte_rows.inc"
    return check_result();
}
