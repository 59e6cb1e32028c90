/* Random numbers by PCG64, seeded and drawn as NumPy's Generator does, so that one seed gives one stream in
 * both.
 *
 * Source: O'Neill, PCG (2014), the variant XSL-RR 128/64; Lemire, Fast random integer generation in an
 * interval (2019); Marsaglia, Tsang, The ziggurat method (2000), with 256 layers; O'Neill's seed_seq_fe for
 * mixing seeds. */
#include <math.h>
#include <pthread.h>
#include <string.h>

#include <walle/numeric.h>

#include "base/error.h"

/* ---- Bits ---- */

typedef unsigned __int128 wide;

static const wide MULTIPLIER = (wide)2549297995355413924u << 64 | 4865540595714422341u;

static uint64_t next_64(we_random *r) {
    wide state = ((wide)r->state[0] << 64 | r->state[1]) * MULTIPLIER +
                 ((wide)r->increment[0] << 64 | r->increment[1]);
    r->state[0] = (uint64_t)(state >> 64), r->state[1] = (uint64_t)state;
    uint64_t mixed = r->state[0] ^ r->state[1];
    unsigned turn = (unsigned)(r->state[0] >> 58);
    return mixed >> turn | mixed << (-turn & 63);
}

/* The low half of a draw first; the high one is kept for the next call. */
static uint32_t next_32(we_random *r) {
    if (r->has_half) {
        r->has_half = 0;
        return r->half;
    }
    uint64_t both = next_64(r);
    r->has_half = 1, r->half = (uint32_t)(both >> 32);
    return (uint32_t)both;
}

static double next_double(we_random *r) {
    return (double)(next_64(r) >> 11) * 0x1p-53;
}

/* 0..most, each as likely. */
static uint64_t next_below(we_random *r, uint64_t most) {
    if (most == 0)
        return 0;
    if (most == UINT32_MAX)
        return next_32(r);
    if (most < UINT32_MAX) {
        uint32_t range = (uint32_t)most + 1, least = (uint32_t)(UINT32_MAX - (uint32_t)most) % range;
        uint64_t product = (uint64_t)next_32(r) * range;
        while ((uint32_t)product < least)
            product = (uint64_t)next_32(r) * range;
        return product >> 32;
    }
    if (most == UINT64_MAX)
        return next_64(r);
    uint64_t range = most + 1, least = (UINT64_MAX - most) % range;
    wide product = (wide)next_64(r) * range;
    while ((uint64_t)product < least)
        product = (wide)next_64(r) * range;
    return (uint64_t)(product >> 64);
}

/* The same as shuffles draw it: by bits, until they are small enough. */
static uint64_t next_masked(we_random *r, uint64_t most) {
    uint64_t mask = most ? ~(uint64_t)0 >> __builtin_clzll(most) : 0, value;
    if (most == 0)
        return 0;
    do {
        value = (most <= UINT32_MAX ? next_32(r) : next_64(r)) & mask;
    } while (value > most);
    return value;
}

/* ---- Seeds ---- */

enum {
    POOL = 4,
};

static uint32_t stir(uint32_t value, uint32_t *constant, uint32_t multiplier) {
    value ^= *constant;
    *constant *= multiplier;
    value *= *constant;
    return value ^ value >> 16;
}

static uint32_t blend(uint32_t x, uint32_t y) {
    uint32_t mixed = 0xca01f9ddu * x - 0x4973f715u * y;
    return mixed ^ mixed >> 16;
}

void we_random_seed(we_random *r, const uint32_t *words, size_t count) {
    uint32_t pool[POOL], constant = 0x43b0d7e5u, drawn[16];
    for (size_t i = 0; i < POOL; i++)
        pool[i] = stir(i < count ? words[i] : 0, &constant, 0x931e8875u);
    for (size_t from = 0; from < POOL; from++) {
        for (size_t to = 0; to < POOL; to++) {
            if (from != to)
                pool[to] = blend(pool[to], stir(pool[from], &constant, 0x931e8875u));
        }
    }
    for (size_t from = POOL; from < count; from++) {
        for (size_t to = 0; to < POOL; to++)
            pool[to] = blend(pool[to], stir(words[from], &constant, 0x931e8875u));
    }
    constant = 0x8b51f9ddu;
    uint64_t seeds[4];
    for (size_t i = 0; i < 8; i++)
        drawn[i] = stir(pool[i % POOL], &constant, 0x58f38dedu);
    for (size_t i = 0; i < 4; i++)
        seeds[i] = drawn[2 * i] | (uint64_t)drawn[2 * i + 1] << 32;
    wide increment = ((wide)seeds[2] << 64 | seeds[3]) << 1 | 1,
         state = ((wide)seeds[0] << 64 | seeds[1]) + increment;
    state = state * MULTIPLIER + increment;
    *r = (we_random){.state = {(uint64_t)(state >> 64), (uint64_t)state},
                     .increment = {(uint64_t)(increment >> 64), (uint64_t)increment}};
}

/* ---- Ziggurats: layer i of a falling density is as wide as edges[i]; all have one area ---- */

enum {
    LAYERS = 256,
};

typedef struct ziggurat {
    double width[LAYERS];    /* of a unit of the random integer */
    double height[LAYERS];   /* the density at the layer's edge */
    uint64_t within[LAYERS]; /* integers below lie under the density for certain */
} ziggurat;

static const double NORMAL_EDGE = 3.6541528853610088, EXPONENTIAL_EDGE = 7.69711747013104972;
static ziggurat normal_layers, exponential_layers;

/* The lowest layer stands for the tail as well: `area` over its density is its width. In double, step by
 * step, as the tables that NumPy's streams come from. */
static void build(ziggurat *z, int bits, double edge, double area, double (*density)(double),
                  double (*inverse)(double)) {
    double scale = ldexp(1, bits), edges[LAYERS];
    edges[LAYERS - 1] = edge;
    for (int i = LAYERS - 2; i > 0; i--)
        edges[i] = inverse(density(edges[i + 1]) + area / edges[i + 1]);
    edges[0] = 0;
    for (int i = 0; i < LAYERS; i++) {
        z->width[i] = (i ? edges[i] : area / density(edge)) / scale;
        z->height[i] = i ? density(edges[i]) : 1;
        z->within[i] = (uint64_t)rint((i ? edges[i - 1] / edges[i] : edge * density(edge) / area) * scale);
    }
}

static double normal_density(double x) {
    return exp(-0.5 * x * x);
}
static double normal_inverse(double y) {
    return sqrt(-2 * log(y));
}
static double exponential_density(double x) {
    return exp(-x);
}
static double exponential_inverse(double y) {
    return -log(y);
}

static pthread_once_t built = PTHREAD_ONCE_INIT;

static void build_all(void) {
    build(&normal_layers, 52, NORMAL_EDGE, 0.0049286732339746519, normal_density, normal_inverse);
    build(&exponential_layers, 53, EXPONENTIAL_EDGE, 0.0039496598225815571993, exponential_density,
          exponential_inverse);
}

static double next_normal(we_random *r) {
    const ziggurat *z = &normal_layers;
    for (;;) {
        uint64_t bits = next_64(r), size = bits >> 9 & 0xfffffffffffffu;
        int layer = (int)(bits & 0xff);
        double x = (double)size * z->width[layer];
        x = bits >> 8 & 1 ? -x : x;
        if (size < z->within[layer])
            return x;
        if (layer == 0) {
            for (;;) {
                double beyond = -(1 / NORMAL_EDGE) * log1p(-next_double(r)), y = -log1p(-next_double(r));
                if (y + y > beyond * beyond)
                    return size >> 8 & 1 ? -(NORMAL_EDGE + beyond) : NORMAL_EDGE + beyond;
            }
        }
        if ((z->height[layer - 1] - z->height[layer]) * next_double(r) + z->height[layer] < exp(-0.5 * x * x))
            return x;
    }
}

static double next_exponential(we_random *r) {
    const ziggurat *z = &exponential_layers;
    for (;;) {
        uint64_t bits = next_64(r) >> 3, size = bits >> 8;
        int layer = (int)(bits & 0xff);
        double x = (double)size * z->width[layer];
        if (size < z->within[layer])
            return x;
        if (layer == 0)
            return EXPONENTIAL_EDGE - log1p(-next_double(r));
        if ((z->height[layer - 1] - z->height[layer]) * next_double(r) + z->height[layer] < exp(-x))
            return x;
    }
}

/* ---- The calls ---- */

void we_random_fill(we_random *r, we_random_kind kind, int64_t count, double shift, double scale,
                    double *out) {
    pthread_once(&built, build_all);
    we_random own = *r; /* the compiler may keep it in registers */
    for (int64_t i = 0; i < count; i++) {
        double x = kind == WE_RANDOM_UNIFORM  ? next_double(&own)
                   : kind == WE_RANDOM_NORMAL ? next_normal(&own)
                                              : next_exponential(&own);
        out[i] = shift + scale * x;
    }
    *r = own;
}

void we_random_fill_f32(we_random *r, int64_t count, float *out) {
    for (int64_t i = 0; i < count; i++)
        out[i] = (float)(next_32(r) >> 8) * 0x1p-24f;
}

void we_random_integers(we_random *r, int64_t least, uint64_t range, int64_t count, int64_t *out) {
    we_random own = *r;
    for (int64_t i = 0; i < count; i++)
        out[i] = (int64_t)((uint64_t)least + next_below(&own, range));
    *r = own;
}

void we_random_shuffle(we_random *r, int64_t first, int64_t count, int masked, int64_t *places) {
    for (int64_t i = count - 1; i >= first; i--) {
        int64_t other = (int64_t)(masked ? next_masked : next_below)(r, (uint64_t)i), kept = places[other];
        places[other] = places[i], places[i] = kept;
    }
}
