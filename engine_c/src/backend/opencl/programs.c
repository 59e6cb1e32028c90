/* A file is named by a hash of the device, its driver, the options and the source, and holds those four, a
 * hash of the binary, and the binary: no name is trusted, and no driver sees a damaged binary, which some do
 * not survive. What cannot be read or written is left aside: it costs time alone. */
#include "backend/opencl/programs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"

enum {
    LOG_BYTES = 16 << 10,
    MOST_BINARY = 64 << 20,
};

static char kept_in[WE_OPENCL_PATH - 64]; /* "": nowhere */
static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;

void we_opencl_keep_programs(const char *folder) {
    pthread_mutex_lock(&kept_lock);
    snprintf(kept_in, sizeof kept_in, "%s", folder && strlen(folder) < sizeof kept_in ? folder : "");
    pthread_mutex_unlock(&kept_lock);
}

/* Source: Fowler, Noll and Vo, FNV-1a of 64 bits. */
static uint64_t hash(uint64_t state, const char *text) {
    do {
        state = (state ^ (unsigned char)*text) * 0x100000001B3u;
    } while (*text++);
    return state;
}

uint64_t we_opencl_identity(const we_opencl_device *d) {
    return hash(hash(hash(0xCBF29CE484222325u, d->platform), d->name), d->driver);
}

bool we_opencl_kept_path(const we_opencl_device *d, const char *kind, char path[WE_OPENCL_PATH]) {
    pthread_mutex_lock(&kept_lock);
    bool kept = kept_in[0] != 0;
    unsigned long long number = we_opencl_identity(d);
    snprintf(path, WE_OPENCL_PATH, "%s/%s-%016llx-" WE_VERSION ".txt", kept_in, kind, number);
    pthread_mutex_unlock(&kept_lock);
    return kept;
}

static uint64_t hash_bytes(const unsigned char *bytes, size_t count) {
    uint64_t state = 0xCBF29CE484222325u;
    for (size_t i = 0; i < count; i++)
        state = (state ^ bytes[i]) * 0x100000001B3u;
    return state;
}

static bool file_of(const we_opencl_device *d, const char *key, char *out) {
    pthread_mutex_lock(&kept_lock);
    bool kept = kept_in[0] != 0;
    snprintf(out, WE_OPENCL_PATH, "%s/%016llx.clb", kept_in,
             (unsigned long long)hash(hash(0xCBF29CE484222325u, d->name), key));
    pthread_mutex_unlock(&kept_lock);
    return kept;
}

/* All a binary depends on. */
static char *key_of(const we_opencl_device *d, const char *source, const char *options) {
    size_t room =
        strlen(d->platform) + strlen(d->name) + strlen(d->driver) + strlen(options) + strlen(source) + 8;
    char *key = we_memory_new_dirty(room);
    if (key)
        snprintf(key, room, "%s\n%s\n%s\n%s\n%s", d->platform, d->name, d->driver, options, source);
    return key;
}

/* What of a file's bytes is the binary, moved to their beginning; 0 where the file is not what it should be.
 */
static size_t unwrap(unsigned char *all, size_t size, const char *key) {
    size_t key_bytes = strlen(key) + 1, head = key_bytes + sizeof(uint64_t);
    uint64_t kept;
    if (size <= head || memcmp(all, key, key_bytes) != 0)
        return 0;
    memcpy(&kept, all + key_bytes, sizeof kept);
    if (hash_bytes(all + head, size - head) != kept)
        return 0;
    memmove(all, all + head, size - head);
    return size - head;
}

static unsigned char *read_file(const char *path, const char *key, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    unsigned char *all = NULL;
    struct stat about;
    *bytes = 0;
    if (!file)
        return NULL;
    if (fstat(fileno(file), &about) == 0 && about.st_size > 0 && about.st_size < MOST_BINARY)
        all = we_memory_new_dirty((size_t)about.st_size);
    if (all && fread(all, 1, (size_t)about.st_size, file) == (size_t)about.st_size)
        *bytes = unwrap(all, (size_t)about.st_size, key);
    fclose(file);
    if (*bytes)
        return all;
    we_memory_free(all);
    return NULL;
}

/* Whole or not at all. */
static void write_file(const char *path, const char *key, const unsigned char *binary, size_t bytes) {
    char temporary[WE_OPENCL_PATH + 32];
    snprintf(temporary, sizeof temporary, "%s.%ld", path, (long)getpid());
    FILE *file = fopen(temporary, "wb");
    if (!file)
        return;
    size_t key_bytes = strlen(key) + 1;
    uint64_t sum = hash_bytes(binary, bytes);
    bool written = fwrite(key, 1, key_bytes, file) == key_bytes && fwrite(&sum, sizeof sum, 1, file) == 1 &&
                   fwrite(binary, 1, bytes, file) == bytes;
    written = fclose(file) == 0 && written;
    if (!written || rename(temporary, path) != 0)
        unlink(temporary);
}

static void keep(const we_opencl_device *d, const char *path, const char *key, void *program) {
    size_t bytes = 0;
    if (d->cl->GetProgramInfo(program, WE_CL_PROGRAM_BINARY_SIZES, sizeof bytes, &bytes, NULL) != 0 ||
        bytes == 0 || bytes > MOST_BINARY)
        return;
    unsigned char *binary = we_memory_new_dirty(bytes);
    if (binary && d->cl->GetProgramInfo(program, WE_CL_PROGRAM_BINARIES, sizeof binary, &binary, NULL) == 0)
        write_file(path, key, binary, bytes);
    we_memory_free(binary);
}

static void *from_file(const we_opencl_device *d, const char *path, const char *key, const char *options) {
    size_t bytes;
    int32_t status = 0, code = 0;
    unsigned char *binary = read_file(path, key, &bytes);
    if (!binary)
        return NULL;
    const unsigned char *binaries[1] = {binary};
    void *program = d->cl->CreateProgramWithBinary(d->context, 1, &d->id, &bytes, binaries, &status, &code);
    we_memory_free(binary);
    if (program && (code != 0 || d->cl->BuildProgram(program, 1, &d->id, options, NULL, NULL) != 0)) {
        d->cl->ReleaseProgram(program);
        return NULL;
    }
    return program;
}

/* The first lines of what the compiler says. */
static we_status build_failed(we_opencl_device *d, void *program, int32_t code, we_error *err) {
    char *log = we_memory_new(LOG_BYTES);
    if (log)
        d->cl->GetProgramBuildInfo(program, d->id, WE_CL_PROGRAM_BUILD_LOG, LOG_BYTES - 1, log, NULL);
    we_status status = we_error_set(err, WE_DEVICE, "%.90s cannot build a program, %s: %.300s", d->name,
                                    we_cl_error_name(code), log ? log : "");
    we_memory_free(log);
    return status;
}

static we_status from_source(we_opencl_device *d, const char *source, const char *options, void **out,
                             we_error *err) {
    int32_t code = 0;
    void *program = d->cl->CreateProgramWithSource(d->context, 1, &source, NULL, &code);
    if (!program)
        return we_opencl_failed(err, d, "CreateProgramWithSource", code);
    code = d->cl->BuildProgram(program, 1, &d->id, options, NULL, NULL);
    if (code != 0) {
        we_status status = build_failed(d, program, code, err);
        d->cl->ReleaseProgram(program);
        return status;
    }
    *out = program;
    return WE_OK;
}

we_status we_opencl_program(we_opencl_device *d, const char *source, const char *options, void **out,
                            we_error *err) {
    char path[WE_OPENCL_PATH], *key = key_of(d, source, options);
    if (!key)
        return we_error_no_memory(err);
    bool kept = file_of(d, key, path);
    *out = kept ? from_file(d, path, key, options) : NULL;
    we_status status = WE_OK;
    if (!*out) {
        status = from_source(d, source, options, out, err);
        if (status == WE_OK && kept)
            keep(d, path, key, *out);
    }
    we_memory_free(key);
    return status;
}
