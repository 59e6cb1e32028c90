#include "search/parameters.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"

static const struct {
    double product, element, copy;
} RATES[WE_ISA_COUNT] = {
#define WE_RATE_ROW(ISA, product, element, copy) [WE_ISA_##ISA] = {product, element, copy},
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

static double known(double value, double standard) {
    return value > 0 ? value : standard;
}

we_opencl_parameters we_parameters_of_device(const we_parameters *p, bool first,
                                             const we_opencl_parameters *standard) {
    if (!first)
        return *standard;
    return (we_opencl_parameters){.products = known(p->device_products, standard->products),
                                  .bandwidth = known(p->device_bandwidth, standard->bandwidth),
                                  .launch = known(p->device_launch, standard->launch),
                                  .to_rate = known(p->device_to, standard->to_rate),
                                  .from_rate = known(p->device_from, standard->from_rate),
                                  .copy = known(p->device_copy, standard->copy)};
}

void we_parameters_use(const we_parameters *parameters) {
    pthread_mutex_lock(&lock);
    is_set = parameters != NULL;
    if (parameters)
        current = *parameters;
    pthread_mutex_unlock(&lock);
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
};

/* One of those per instruction set or kernel. */
static double *numbered(we_parameters *p, size_t index, we_parameter *out) {
    const we_matmul_row *rows;
    we_matmul_rows(&rows);
    if (index < 2 * WE_ISA_COUNT) {
        bool copies = index >= WE_ISA_COUNT;
        size_t isa = index % WE_ISA_COUNT;
        snprintf(out->name, sizeof out->name, "%s.%s", copies ? "copy" : "element", we_isa_name(isa));
        out->meaning = copies ? "bytes copied per ns" : "elements of an element-wise loop per ns";
        return copies ? &p->copy[isa] : &p->element[isa];
    }
    index -= 2 * WE_ISA_COUNT;
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

size_t we_parameter_count(void) {
    const we_matmul_row *rows;
    size_t kernels = we_matmul_rows(&rows);
    return NAMED_COUNT + 2 * WE_ISA_COUNT + (kernels < WE_MAX_KERNELS ? kernels : WE_MAX_KERNELS);
}

we_status we_parameter_get(size_t index, we_parameter *out, we_error *err) {
    if (!out || index >= we_parameter_count())
        return we_error_set(err, WE_INVALID_ARGUMENT, "there is no parameter %zu, or out is NULL", index);
    we_parameters now = we_parameters_now(), standard = we_parameters_standard();
    out->standard = *parameter(&standard, index, out);
    out->value = *parameter(&now, index, out);
    return WE_OK;
}

we_status we_parameter_set(const char *name, double value, we_error *err) {
    if (!name)
        return we_error_set(err, WE_INVALID_ARGUMENT, "the parameter's name is NULL");
    we_parameters p = we_parameters_now(), standard = we_parameters_standard();
    for (size_t i = 0; i < we_parameter_count(); i++) {
        we_parameter found;
        double *at = parameter(&p, i, &found);
        if (strcmp(found.name, name) != 0)
            continue;
        if (!(value >= WE_PARAMETER_LEAST && value <= WE_PARAMETER_MOST) &&
            value != *parameter(&standard, i, &found))
            return we_error_set(err, WE_INVALID_ARGUMENT, "parameter '%.80s' cannot be %g", name, value);
        *at = value;
        we_parameters_use(&p);
        return WE_OK;
    }
    return we_error_set(err, WE_INVALID_ARGUMENT, "there is no parameter '%.80s'", name);
}

void we_parameters_reset(void) {
    we_parameters_use(NULL);
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
