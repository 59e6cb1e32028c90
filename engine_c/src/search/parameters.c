#include "search/parameters.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "backend/opencl/programs.h"
#include "base/clock.h"
#include "base/error.h"

static const struct {
    double product, element, copy, bytes;
} RATES[WE_ISA_COUNT] = {
#define WE_RATE_ROW(ISA, product, element, copy, bytes) [WE_ISA_##ISA] = {product, element, copy, bytes},
#include "search/rates.inc"
#undef WE_RATE_ROW
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static we_parameters current; /* guarded by the lock, as is whether it is set */
static bool is_set;

/* Operations of a cycle: two multiply-adds of a vector. */
static double operations(we_isa isa) {
    return 4 * we_isa_lanes(isa);
}

we_parameters we_parameters_standard(void) {
    const we_matmul_row *rows;
    size_t count = we_matmul_rows(&rows);
    we_parameters p = {
#define WE_PARAMETER_ROW(name, standard, meaning) .name = (standard),
#include "search/parameters.inc"
#undef WE_PARAMETER_ROW
    };
    for (int isa = 0; isa < WE_ISA_COUNT; isa++) {
        p.element[isa] = RATES[isa].element;
        p.copy[isa] = RATES[isa].copy;
        p.bytes[isa] = RATES[isa].bytes;
    }
    for (size_t i = 0; i < count && i < WE_MAX_KERNELS; i++)
        p.cycles[i] = RATES[rows[i].isa].product / operations(rows[i].isa);
    return p;
}

we_parameters we_parameters_now(void) {
    pthread_mutex_lock(&lock);
    we_parameters p = is_set ? current : we_parameters_standard();
    pthread_mutex_unlock(&lock);
    return p;
}

void we_parameters_use(const we_parameters *parameters) {
    pthread_mutex_lock(&lock);
    is_set = parameters != NULL;
    if (parameters)
        current = *parameters;
    pthread_mutex_unlock(&lock);
}

/* ---- Of devices ---- */

enum {
    MOST_DEVICES = 64, /* that are remembered: of one more, the longest known is forgotten */
    FIGURES = sizeof(we_opencl_parameters) / sizeof(double),
};

static const struct {
    const char *name, *meaning;
    size_t at;
} FIGURE[] = {
#define WE_DEVICE_PARAMETER_ROW(name, meaning) {#name, meaning, offsetof(we_opencl_parameters, name)},
#include "search/device_parameters.inc"
#undef WE_DEVICE_PARAMETER_ROW
};
_Static_assert(sizeof FIGURE / sizeof *FIGURE == FIGURES, "every figure has a row");

typedef struct known_device {
    uint64_t identity;
    we_opencl_parameters figures; /* 0: not measured */
} known_device;

static known_device known_devices[MOST_DEVICES]; /* guarded by the lock, as is how many there are */
static size_t known_count;

static double *figure_of(we_opencl_parameters *figures, size_t figure) {
    return (double *)((char *)figures + FIGURE[figure].at);
}

static known_device *find_device(uint64_t identity) {
    for (size_t i = 0; i < known_count; i++) {
        if (known_devices[i].identity == identity)
            return &known_devices[i];
    }
    return NULL;
}

static known_device *find_or_add_device(uint64_t identity) {
    known_device *found = find_device(identity);
    if (found)
        return found;
    if (known_count == MOST_DEVICES)
        memmove(known_devices, known_devices + 1, --known_count * sizeof *known_devices);
    found = &known_devices[known_count++];
    *found = (known_device){.identity = identity};
    return found;
}

we_opencl_parameters we_parameters_of_device(const we_opencl_device *device) {
    we_opencl_parameters believed = device->parameters;
    pthread_mutex_lock(&lock);
    known_device *found = find_device(we_opencl_identity(device));
    for (size_t i = 0; found && i < FIGURES; i++) {
        if (*figure_of(&found->figures, i) > 0)
            *figure_of(&believed, i) = *figure_of(&found->figures, i);
    }
    pthread_mutex_unlock(&lock);
    return believed;
}

static bool is_sensible(double value) {
    return value >= WE_PARAMETER_LEAST && value <= WE_PARAMETER_MOST;
}

void we_parameters_use_for(const we_opencl_device *device, const we_opencl_parameters *measured) {
    we_opencl_parameters figures = *measured;
    pthread_mutex_lock(&lock);
    known_device *found = find_or_add_device(we_opencl_identity(device));
    for (size_t i = 0; i < FIGURES; i++) {
        if (is_sensible(*figure_of(&figures, i)))
            *figure_of(&found->figures, i) = *figure_of(&figures, i);
    }
    pthread_mutex_unlock(&lock);
}

/* "device.IDENTITY.FIGURE", the identity in 16 digits as they are written here. */
static bool read_device_name(const char *name, uint64_t *identity, size_t *figure) {
    static const char HEAD[] = "device.", DIGITS[] = "0123456789abcdef";
    if (strncmp(name, HEAD, sizeof HEAD - 1) != 0)
        return false;
    const char *at = name + sizeof HEAD - 1;
    *identity = 0;
    for (int i = 0; i < 16; i++, at++) {
        const char *digit = *at ? strchr(DIGITS, *at) : NULL;
        if (!digit)
            return false;
        *identity = *identity << 4 | (uint64_t)(digit - DIGITS);
    }
    for (*figure = 0; *at == '.' && *figure < FIGURES; ++*figure) {
        if (strcmp(at + 1, FIGURE[*figure].name) == 0)
            return true;
    }
    return false;
}

/* The figure with that number, of all that are known of devices. */
static bool get_figure(size_t number, we_parameter *out) {
    pthread_mutex_lock(&lock);
    bool is_there = number / FIGURES < known_count;
    if (is_there) {
        known_device *device = &known_devices[number / FIGURES];
        snprintf(out->name, sizeof out->name, "device.%016llx.%s", (unsigned long long)device->identity,
                 FIGURE[number % FIGURES].name);
        out->meaning = FIGURE[number % FIGURES].meaning;
        out->value = *figure_of(&device->figures, number % FIGURES);
        out->standard = 0;
    }
    pthread_mutex_unlock(&lock);
    return is_there;
}

/* ---- By name ---- */

static const struct {
    const char *name, *meaning;
    size_t at;
} NAMED[] = {
#define WE_PARAMETER_ROW(name, standard, meaning) {#name, meaning, offsetof(we_parameters, name)},
#include "search/parameters.inc"
#undef WE_PARAMETER_ROW
};

enum {
    NAMED_COUNT = sizeof NAMED / sizeof *NAMED,
    RATE_KINDS = 3, /* per instruction set */
};

/* One of those per instruction set or kernel. */
static double *numbered(we_parameters *p, size_t index, we_parameter *out) {
    const we_matmul_row *rows;
    we_matmul_rows(&rows);
    const struct {
        const char *name, *meaning;
        double *values;
    } rates[RATE_KINDS] = {{"element", "elements of an element-wise loop per ns", p->element},
                           {"copy", "bytes copied per ns", p->copy},
                           {"bytes", "products of bytes per ns", p->bytes}};
    if (index < RATE_KINDS * WE_ISA_COUNT) {
        size_t kind = index / WE_ISA_COUNT, isa = index % WE_ISA_COUNT;
        snprintf(out->name, sizeof out->name, "%s.%s", rates[kind].name, we_isa_name(isa));
        out->meaning = rates[kind].meaning;
        return &rates[kind].values[isa];
    }
    index -= RATE_KINDS * WE_ISA_COUNT;
    snprintf(out->name, sizeof out->name, "cycles.%s", rows[index].name);
    out->meaning = "cycles of the micro-kernel's formula per ns";
    return &p->cycles[index];
}

/* Where the parameter with that number lies, and what it is called. */
static double *parameter(we_parameters *p, size_t index, we_parameter *out) {
    if (index >= NAMED_COUNT)
        return numbered(p, index - NAMED_COUNT, out);
    snprintf(out->name, sizeof out->name, "%s", NAMED[index].name);
    out->meaning = NAMED[index].meaning;
    return (double *)((char *)p + NAMED[index].at);
}

/* But for those of devices, which come behind them. */
static size_t own_count(void) {
    const we_matmul_row *rows;
    size_t kernels = we_matmul_rows(&rows);
    return NAMED_COUNT + RATE_KINDS * WE_ISA_COUNT + (kernels < WE_MAX_KERNELS ? kernels : WE_MAX_KERNELS);
}

size_t we_parameter_count(void) {
    pthread_mutex_lock(&lock);
    size_t figures = known_count * FIGURES;
    pthread_mutex_unlock(&lock);
    return own_count() + figures;
}

we_status we_parameter_get(size_t index, we_parameter *out, we_error *err) {
    if (out && index >= own_count() && get_figure(index - own_count(), out))
        return WE_OK;
    if (!out || index >= own_count())
        return we_error_set(err, WE_INVALID_ARGUMENT, "there is no parameter %zu, or out is NULL", index);
    we_parameters now = we_parameters_now(), standard = we_parameters_standard();
    out->standard = *parameter(&standard, index, out);
    out->value = *parameter(&now, index, out);
    return WE_OK;
}

int32_t we_parameter_exists(const char *name) {
    uint64_t identity;
    size_t figure;
    we_parameters p;
    if (!name)
        return 0;
    if (read_device_name(name, &identity, &figure))
        return 1;
    for (size_t i = 0; i < own_count(); i++) {
        we_parameter found;
        parameter(&p, i, &found);
        if (strcmp(found.name, name) == 0)
            return 1;
    }
    return 0;
}

static we_status refuse(const char *name, double value, we_error *err) {
    return we_error_set(err, WE_INVALID_ARGUMENT, "parameter '%.80s' cannot be %g", name, value);
}

static we_status set_figure(const char *name, uint64_t identity, size_t figure, double value, we_error *err) {
    if (!is_sensible(value) && value != 0)
        return refuse(name, value, err);
    pthread_mutex_lock(&lock);
    *figure_of(&find_or_add_device(identity)->figures, figure) = value;
    pthread_mutex_unlock(&lock);
    return WE_OK;
}

we_status we_parameter_set(const char *name, double value, we_error *err) {
    uint64_t identity;
    size_t figure;
    if (!name)
        return we_error_set(err, WE_INVALID_ARGUMENT, "the parameter's name is NULL");
    if (read_device_name(name, &identity, &figure))
        return set_figure(name, identity, figure, value, err);
    we_parameters p = we_parameters_now(), standard = we_parameters_standard();
    for (size_t i = 0; i < own_count(); i++) {
        we_parameter found;
        double *at = parameter(&p, i, &found);
        if (strcmp(found.name, name) != 0)
            continue;
        if (!is_sensible(value) && value != *parameter(&standard, i, &found))
            return refuse(name, value, err);
        *at = value;
        we_parameters_use(&p);
        return WE_OK;
    }
    return we_error_set(err, WE_INVALID_ARGUMENT, "there is no parameter '%.80s'", name);
}

void we_parameters_reset(void) {
    we_parameters_use(NULL);
    pthread_mutex_lock(&lock);
    known_count = 0;
    pthread_mutex_unlock(&lock);
}

static double monotonic(void *context) {
    (void)context;
    return we_clock_now_s();
}

we_status we_calibrate(we_clock clock_s, void *context, we_error *err) {
    we_parameters p = we_parameters_standard();
    WE_TRY(we_parameters_measure(clock_s ? clock_s : monotonic, context, &p, err));
    we_parameters_use(&p);
    return WE_OK;
}
