/* Runs the cases that walle_support/recording.py wrote: run_cases FILE|FOLDER...; each in every precision it
 * was recorded in. For machines without Python, and for emulated ones. */
#include <dirent.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/dtype.h"
#include "walle/engine.h"

enum {
    MOST_TENSORS = 64,
    MOST_NAME = 256,
};

typedef struct reader {
    const char *at, *end;
} reader;

static bool take(reader *r, void *to, size_t size) {
    if ((size_t)(r->end - r->at) < size)
        return false;
    memcpy(to, r->at, size);
    r->at += size;
    return true;
}

static bool take_text(reader *r, char to[MOST_NAME]) {
    uint32_t length;
    if (!take(r, &length, sizeof length) || length >= MOST_NAME || !take(r, to, length))
        return false;
    to[length] = 0;
    return true;
}

typedef struct tensors {
    uint32_t count;
    char names[MOST_TENSORS][MOST_NAME];
    we_binding bound[MOST_TENSORS];
} tensors;

static bool take_tensors(reader *r, tensors *t) {
    if (!take(r, &t->count, sizeof t->count) || t->count > MOST_TENSORS)
        return false;
    for (uint32_t i = 0; i < t->count; i++) {
        we_view *view = &t->bound[i].view;
        int32_t dtype;
        if (!take_text(r, t->names[i]) || !take(r, &dtype, sizeof dtype) ||
            !take(r, &view->rank, sizeof view->rank) || view->rank < 0 || view->rank > 8)
            return false;
        size_t bytes = we_dtype_size((we_dtype)dtype);
        for (int32_t d = 0; d < view->rank; d++) {
            if (!take(r, &view->dims[d], sizeof view->dims[d]))
                return false;
            bytes *= (size_t)view->dims[d];
        }
        if ((size_t)(r->end - r->at) < bytes)
            return false;
        view->dtype = (we_dtype)dtype;
        view->data = malloc(bytes + 1); /* aligned, unlike the file */
        memcpy(view->data, r->at, bytes);
        r->at += bytes;
        t->bound[i].name = t->names[i];
    }
    return true;
}

static void free_tensors(tensors *t) {
    for (uint32_t i = 0; i < t->count && i < MOST_TENSORS; i++)
        free(t->bound[i].view.data);
}

/* How far results may be from those of the plain kernels, of the largest magnitude among them. */
static double allowed(we_dtype dtype, const char *precision) {
    if (strcmp(precision, "medium") == 0)
        return 3e-2;
    return dtype == WE_F32 ? 2e-5 : dtype == WE_F64 ? 1e-12 : 0;
}

static double element(const we_view *view, size_t i) {
    return view->dtype == WE_F32 ? (double)((const float *)view->data)[i] : ((const double *)view->data)[i];
}

static bool is_close(double got, double want, double margin) {
    return got == want || (isnan(got) && isnan(want)) || fabs(got - want) <= margin;
}

static bool is_same(const char *name, const we_view *want, const we_view *got, const char *precision) {
    size_t count = 1;
    bool same = want->dtype == got->dtype && want->rank == got->rank;
    for (int32_t d = 0; same && d < want->rank; d++) {
        same = want->dims[d] == got->dims[d];
        count *= (size_t)want->dims[d];
    }
    if (!same) {
        printf("%s: an output has another dtype or shape\n", name);
        return false;
    }
    double margin = allowed(want->dtype, precision), largest = 0;
    if (want->dtype != WE_F32 && want->dtype != WE_F64) {
        same = memcmp(want->data, got->data, count * we_dtype_size(want->dtype)) == 0;
        if (!same)
            printf("%s: an output of %s differs\n", name, we_dtype_name(want->dtype));
        return same;
    }
    for (size_t i = 0; i < count; i++) {
        double size = fabs(element(want, i));
        largest = isfinite(size) && size > largest ? size : largest;
    }
    for (size_t i = 0; i < count; i++) {
        if (!is_close(element(got, i), element(want, i), margin * largest)) {
            printf("%s: element %zu is %.9g, not %.9g\n", name, i, element(got, i), element(want, i));
            return false;
        }
    }
    return true;
}

static bool run(const char *name, we_model *model, const char *precision, const tensors *given,
                const tensors *wanted) {
    we_error error = {0};
    we_session *session = NULL;
    we_block *outputs[MOST_TENSORS] = {0};
    we_session_options options = {.threads = 1, .precision = precision};
    bool right = we_session_new(model, &options, &session, &error) == WE_OK &&
                 we_session_run(session, given->bound, given->count, outputs, &error) == WE_OK;
    if (!right)
        printf("%s: %s (%s %s)\n", name, error.message, error.op, error.node);
    for (uint32_t i = 0; right && i < wanted->count; i++) {
        we_view got = we_block_view(outputs[i]);
        right = is_same(name, &wanted->bound[i].view, &got, precision);
    }
    for (uint32_t i = 0; i < wanted->count; i++)
        if (outputs[i])
            we_block_release(outputs[i]);
    if (session)
        we_session_release(session);
    return right;
}

static bool run_bytes(const char *name, reader r) {
    static const char MAGIC[8] = "WCASE1\n";
    char magic[8], precision[MOST_NAME];
    uint64_t size;
    if (!take(&r, magic, 8) || memcmp(magic, MAGIC, 8) != 0 || !take_text(&r, precision) ||
        !take(&r, &size, sizeof size) || (uint64_t)(r.end - r.at) < size) {
        printf("%s: no case\n", name);
        return false;
    }
    we_error error = {0};
    we_model *model = NULL;
    if (we_model_load_memory(r.at, size, &model, &error) != WE_OK) {
        printf("%s: %s\n", name, error.message);
        return false;
    }
    r.at += size;
    tensors *given = calloc(2, sizeof *given), *wanted = given + 1;
    bool right = take_tensors(&r, given) && take_tensors(&r, wanted) &&
                 wanted->count == we_model_output_count(model) && run(name, model, precision, given, wanted);
    free_tensors(given);
    free_tensors(wanted);
    free(given);
    we_model_release(model);
    return right;
}

static bool run_file(const char *path) {
    FILE *file = fopen(path, "rb");
    struct stat about;
    if (!file || fstat(fileno(file), &about) != 0) {
        printf("%s: cannot be read\n", path);
        return false;
    }
    char *bytes = malloc((size_t)about.st_size + 1);
    size_t got = fread(bytes, 1, (size_t)about.st_size, file);
    fclose(file);
    bool right = run_bytes(path, (reader){bytes, bytes + got});
    free(bytes);
    return right;
}

int main(int argc, char **argv) {
    int passed = 0, failed = 0;
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        if (!folder) {
            *(run_file(argv[i]) ? &passed : &failed) += 1;
            continue;
        }
        for (struct dirent *entry; (entry = readdir(folder));) {
            char path[4096];
            if (entry->d_name[0] == '.')
                continue;
            snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            *(run_file(path) ? &passed : &failed) += 1;
        }
        closedir(folder);
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0;
}
