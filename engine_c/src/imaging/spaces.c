/* XYZ, L*a*b* and L*u*v* of D65, from and to sRGB. Bytes as OpenCV computes them, by integers and tables, but
 * for L*u*v*, which it interpolates in a coarse table where this has the formula. */
#include <pthread.h>

#include "imaging/color.h"

enum { XYZ, LAB, LUV };

/* Source: OpenCV's sRGB2XYZ_D65 and XYZ2sRGB_D65; rows are X, Y, Z of red, green, blue, and the way back. */
static const double TO_XYZ[9] = {0.412453, 0.357580, 0.180423, 0.212671, 0.715160,
                                 0.072169, 0.019334, 0.119193, 0.950227};
static const double FROM_XYZ[9] = {3.240479, -1.53715, -0.498535, -0.969256, 1.875991,
                                   0.041556, 0.055648, -0.204043, 1.057311};
static const double WHITE[3] = {0.950456, 1, 1.088754};

/* Bits of weights, of light (of 255), of f(t) of CIE's formulas, of what it is made back to, of light made
 * back. */
enum { WEIGHT = 12, LIGHT = 3, ROOT = 15, BASE = 14, BACK = 12 };
enum { ROOTS = 256 * 3 / 2 << LIGHT, LIGHTS = 1 << BACK, LEAST_F = -8145, FS = (1 << BASE) * 9 / 4 };

static struct {
    uint16_t light[256]; /* of a byte, without the gamma */
    uint16_t root[ROOTS];
    uint8_t byte[LIGHTS];    /* the way back */
    int32_t y[256], fy[256]; /* of L */
    int32_t xz[FS];          /* of f, from LEAST_F */
    int32_t to[9], from[9];  /* weights; of white, all three are equal */
    float luv_y[256];
} tables;

static double linear_of(double v) {
    return v <= 0.04045 ? v / 12.92 : pow((v + 0.055) / 1.055, 2.4);
}

static double gamma_of(double v) {
    return v <= 0.0031308 ? v * 12.92 : 1.055 * pow(v, 1 / 2.4) - 0.055;
}

static double root_of(double t) {
    return t < 0.008856 ? t * 7.787 + 16.0 / 116 : cbrt(t);
}

static double cube_of(double f) { /* the way back */
    return f <= 6.0 / 29 ? (f - 16.0 / 116) * 108 / 841 : f * f * f;
}

static void fill_tables(void) {
    for (int i = 0; i < 256; i++) {
        double l = i * 100.0 / 255;
        tables.light[i] = (uint16_t)lrint((255 << LIGHT) * linear_of(i / 255.0));
        double fy = l <= 8 ? 7.787 * l / 903.3 + 16.0 / 116 : (l + 16) / 116;
        double y = l <= 8 ? l / 903.3 : fy * fy * fy;
        tables.fy[i] = (int32_t)lrint(fy * (1 << BASE));
        tables.y[i] = (int32_t)lrint(y * (1 << BASE));
        tables.luv_y[i] = (float)y;
    }
    for (int i = 0; i < ROOTS; i++)
        tables.root[i] = (uint16_t)lrint((1 << ROOT) * root_of((double)i / (255 << LIGHT)));
    for (int i = 0; i < LIGHTS; i++)
        tables.byte[i] = (uint8_t)lrint(255 * gamma_of((double)i / LIGHTS));
    for (int i = 0; i < FS; i++) {
        int64_t f = i + LEAST_F, one = 1 << BASE;
        tables.xz[i] =
            (int32_t)(f <= 3390 ? f * 108 / 841 - one * 16 / 116 * 108 / 841 : f * f / one * f / one);
    }
    for (int i = 0; i < 9; i++) {
        tables.to[i] = (int32_t)lrint((1 << WEIGHT) * TO_XYZ[i] / WHITE[i / 3]);
        tables.from[i] = (int32_t)lrint((1 << WEIGHT) * FROM_XYZ[i] * WHITE[i % 3]);
    }
}

static int32_t descaled(int32_t v, int bits) {
    return (v + (1 << (bits - 1))) >> bits;
}

static int32_t within(int32_t v, int32_t most) {
    return v < 0 ? 0 : v > most ? most : v;
}

/* ---- XYZ ---- */

static const int32_t TO_XYZ_12[9] = {1689, 1465, 739, 871, 2929, 296, 79, 488, 3892};
static const int32_t FROM_XYZ_12[9] = {13273, -6296, -2042, -3970, 7684, 170, 228, -836, 4331};

static void to_xyz_u8(const we_coloring *k, int64_t n, uint8_t *const *in, uint8_t *const *out) {
    for (int i = 0; i < 3; i++) {
        const int32_t *w = TO_XYZ_12 + 3 * i, weights[4] = {w[0], w[1], w[2], 1 << (WEIGHT - 1)};
        k->c->kernels->mix_u8(n, in[2 - k->blue], in[1], in[k->blue], weights, WEIGHT, out[i]);
    }
}

static void from_xyz_u8(const we_coloring *k, int64_t n, uint8_t *const *in, uint8_t *const *out) {
    uint8_t *const planes[3] = {out[2 - k->blue], out[1], out[k->blue]};
    for (int i = 0; i < 3; i++) {
        const int32_t *w = FROM_XYZ_12 + 3 * i, weights[4] = {w[0], w[1], w[2], 1 << (WEIGHT - 1)};
        k->c->kernels->mix_u8(n, in[0], in[1], in[2], weights, WEIGHT, planes[i]);
    }
}

static void product(const double *m, const double *x, double *y) {
    for (int i = 0; i < 3; i++)
        y[i] = m[3 * i] * x[0] + m[3 * i + 1] * x[1] + m[3 * i + 2] * x[2];
}

static void to_xyz_f64(const we_coloring *k, const double *in, double *out) {
    product(TO_XYZ, (const double[3]){in[2 - k->blue], in[1], in[k->blue]}, out);
}

static void from_xyz_f64(const we_coloring *k, const double *in, double *out) {
    double rgb[3];
    product(FROM_XYZ, in, rgb);
    out[2 - k->blue] = rgb[0];
    out[1] = rgb[1];
    out[k->blue] = rgb[2];
}

/* ---- L*a*b* ---- */

static void to_lab_u8(const we_coloring *k, int64_t n, uint8_t *const *in, uint8_t *const *out) {
    const uint8_t *r = in[2 - k->blue], *g = in[1], *b = in[k->blue];
    const int32_t *w = tables.to, middle = 128 << ROOT;
    for (int64_t i = 0; i < n; i++) {
        int32_t red = tables.light[r[i]], green = tables.light[g[i]], blue = tables.light[b[i]];
        int32_t fx = tables.root[descaled(red * w[0] + green * w[1] + blue * w[2], WEIGHT)],
                fy = tables.root[descaled(red * w[3] + green * w[4] + blue * w[5], WEIGHT)],
                fz = tables.root[descaled(red * w[6] + green * w[7] + blue * w[8], WEIGHT)];
        out[0][i] = (uint8_t)within(descaled(296 * fy - 1336934, ROOT), 255); /* 255 / 100 * (116 f - 16) */
        out[1][i] = (uint8_t)within(descaled(500 * (fx - fy) + middle, ROOT), 255);
        out[2][i] = (uint8_t)within(descaled(200 * (fy - fz) + middle, ROOT), 255);
    }
}

static void from_lab_u8(const we_coloring *k, int64_t n, uint8_t *const *in, uint8_t *const *out) {
    const int32_t *w = tables.from, shift = WEIGHT + BASE - BACK;
    for (int64_t i = 0; i < n; i++) {
        int32_t y = tables.y[in[0][i]], fy = tables.fy[in[0][i]];
        int32_t a = ((5 * in[1][i] * 53687 + (1 << 7)) >> 13) - 128 * (1 << BASE) / 500,
                b = ((in[2][i] * 41943 + (1 << 4)) >> 9) - 128 * (1 << BASE) / 200 + 1;
        int32_t x = tables.xz[within(fy + a - LEAST_F, FS - 1)],
                z = tables.xz[within(fy - b - LEAST_F, FS - 1)];
        out[2 - k->blue][i] =
            tables.byte[within(descaled(x * w[0] + y * w[1] + z * w[2], shift), LIGHTS - 1)];
        out[1][i] = tables.byte[within(descaled(x * w[3] + y * w[4] + z * w[5], shift), LIGHTS - 1)];
        out[k->blue][i] = tables.byte[within(descaled(x * w[6] + y * w[7] + z * w[8], shift), LIGHTS - 1)];
    }
}

static double kept(double v) { /* floats count from 0 to 1 */
    return v < 0 ? 0 : v > 1 ? 1 : v;
}

static void linear_xyz(const we_coloring *k, const double *in, double *xyz) {
    const double rgb[3] = {linear_of(kept(in[2 - k->blue])), linear_of(kept(in[1])),
                           linear_of(kept(in[k->blue]))};
    product(TO_XYZ, rgb, xyz);
}

static void from_linear_xyz(const we_coloring *k, const double *xyz, double *out) {
    double rgb[3];
    product(FROM_XYZ, xyz, rgb);
    out[2 - k->blue] = gamma_of(kept(rgb[0]));
    out[1] = gamma_of(kept(rgb[1]));
    out[k->blue] = gamma_of(kept(rgb[2]));
}

static double lightness_of(double y) {
    return y > 0.008856 ? 116 * cbrt(y) - 16 : 903.3 * y;
}

static void to_lab_f64(const we_coloring *k, const double *in, double *out) {
    double xyz[3];
    linear_xyz(k, in, xyz);
    double fx = root_of(xyz[0] / WHITE[0]), fy = root_of(xyz[1]), fz = root_of(xyz[2] / WHITE[2]);
    out[0] = lightness_of(xyz[1]);
    out[1] = 500 * (fx - fy);
    out[2] = 200 * (fy - fz);
}

static void from_lab_f64(const we_coloring *k, const double *in, double *out) {
    double fy = in[0] <= 8 ? 7.787 * in[0] / 903.3 + 16.0 / 116 : (in[0] + 16) / 116;
    double y = in[0] <= 8 ? in[0] / 903.3 : fy * fy * fy;
    const double xyz[3] = {cube_of(fy + in[1] / 500) * WHITE[0], y, cube_of(fy - in[2] / 200) * WHITE[2]};
    from_linear_xyz(k, xyz, out);
}

/* ---- L*u*v* ---- */

/* u' and v' of white. */
#define WHITE_SUM (0.950456 + 15 + 3 * 1.088754)
#define WHITE_U (4 * 0.950456 / WHITE_SUM)
#define WHITE_V (9 / WHITE_SUM)

static void to_luv_u8(const we_coloring *k, int64_t n, uint8_t *const *in, uint8_t *const *out) {
    const uint8_t *r = in[2 - k->blue], *g = in[1], *b = in[k->blue];
    float m[9];
    for (int i = 0; i < 9; i++)
        m[i] = (float)TO_XYZ[i];
    for (int64_t i = 0; i < n; i++) {
        float red = tables.light[r[i]], green = tables.light[g[i]], blue = tables.light[b[i]];
        float x = m[0] * red + m[1] * green + m[2] * blue, y = m[3] * red + m[4] * green + m[5] * blue,
              z = m[6] * red + m[7] * green + m[8] * blue, sum = x + 15 * y + 3 * z;
        float per = sum > 0 ? 1 / sum : 0, l = 116 * (1.0f / (1 << ROOT)) * tables.root[(int)(y + 0.5f)] - 16;
        float u = 13 * l * (4 * x * per - (float)WHITE_U), v = 13 * l * (9 * y * per - (float)WHITE_V);
        out[0][i] = (uint8_t)within((int32_t)lrintf(l * 2.55f), 255);
        out[1][i] = (uint8_t)within((int32_t)lrintf(u * (255.0f / 354) + 134 * 255.0f / 354), 255);
        out[2][i] = (uint8_t)within((int32_t)lrintf(v * (255.0f / 262) + 140 * 255.0f / 262), 255);
    }
}

/* x, y, z of l, u, v; where v' is next to nothing, as OpenCV has it. */
static void luv_to_xyz(double l, double y, double u, double v, double *xyz) {
    double of_u = 3 * (u + 13 * l * WHITE_U), of_v = v + 13 * l * WHITE_V;
    double per = of_v == 0 ? 0.25 : fmax(fmin(0.25 / of_v, 0.25), -0.25);
    xyz[0] = 3 * y * of_u * per;
    xyz[1] = y;
    xyz[2] = y * ((12 * 13 * l - of_u) * per - 5);
}

static void from_luv_u8(const we_coloring *k, int64_t n, uint8_t *const *in, uint8_t *const *out) {
    for (int64_t i = 0; i < n; i++) {
        double xyz[3], rgb[3];
        luv_to_xyz(in[0][i] * (100.0 / 255), (double)tables.luv_y[in[0][i]], in[1][i] * (354.0 / 255) - 134,
                   in[2][i] * (262.0 / 255) - 140, xyz);
        xyz[0] = fmax(fmin(xyz[0], 2), 0); /* far from any colour, as OpenCV has it */
        xyz[2] = fmax(fmin(xyz[2], 2), 0);
        product(FROM_XYZ, xyz, rgb);
        out[2 - k->blue][i] = tables.byte[within(we_round(rgb[0] * LIGHTS), LIGHTS - 1)];
        out[1][i] = tables.byte[within(we_round(rgb[1] * LIGHTS), LIGHTS - 1)];
        out[k->blue][i] = tables.byte[within(we_round(rgb[2] * LIGHTS), LIGHTS - 1)];
    }
}

static void to_luv_f64(const we_coloring *k, const double *in, double *out) {
    double xyz[3];
    linear_xyz(k, in, xyz);
    double sum = xyz[0] + 15 * xyz[1] + 3 * xyz[2], per = sum > 0 ? 1 / sum : 0, l = lightness_of(xyz[1]);
    out[0] = l;
    out[1] = 13 * l * (4 * xyz[0] * per - WHITE_U);
    out[2] = 13 * l * (9 * xyz[1] * per - WHITE_V);
}

static void from_luv_f64(const we_coloring *k, const double *in, double *out) {
    double l = in[0], f = (l + 16) / 116, xyz[3];
    luv_to_xyz(l, l <= 8 ? l / 903.3 : f * f * f, in[1], in[2], xyz);
    from_linear_xyz(k, xyz, out);
}

/* ---- The operations ---- */

static const struct {
    we_u8_formula to_u8, from_u8;
    we_f64_formula to_f64, from_f64;
} SPACES[] = {
    [XYZ] = {to_xyz_u8, from_xyz_u8, to_xyz_f64, from_xyz_f64},
    [LAB] = {to_lab_u8, from_lab_u8, to_lab_f64, from_lab_f64},
    [LUV] = {to_luv_u8, from_luv_u8, to_luv_f64, from_luv_f64},
};

static we_status prepare(const we_imaging_call *c, we_coloring *k, int64_t *space, we_error *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fill_tables);
    k->c = c;
    WE_TRY(we_color_blue_of(c, &k->blue, err));
    return we_number_within(c->p[1], XYZ, LUV, "the colour space", space, err);
}

/* Numbers: the channel of blue, the space (0 XYZ, 1 L*a*b*, 2 L*u*v*). */
we_status we_imaging_color_to_space(const we_imaging_call *c, we_error *err) {
    we_coloring k = {0};
    int64_t space = 0;
    WE_TRY(prepare(c, &k, &space, err));
    k.u8 = SPACES[space].to_u8;
    k.f64 = SPACES[space].to_f64;
    return we_color_convert(&k, WE_TYPE(U8) | WE_TYPE(F32), 3, 3, 3, 3, err);
}

we_status we_imaging_color_from_space(const we_imaging_call *c, we_error *err) {
    we_coloring k = {0};
    int64_t space = 0;
    WE_TRY(prepare(c, &k, &space, err));
    k.u8 = SPACES[space].from_u8;
    k.f64 = SPACES[space].from_f64;
    return we_color_convert(&k, WE_TYPE(U8) | WE_TYPE(F32), 3, 3, 3, 4, err);
}
