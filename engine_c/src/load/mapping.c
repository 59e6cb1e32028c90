#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "load/load.h"

/* The system's words for an error number (the GNU form of strerror_r returns them). */
static void describe(int number, char *out, size_t room) {
    char buffer[128];
    snprintf(out, room, "%s", strerror_r(number, buffer, sizeof buffer));
}

we_status we_mapping_open(const char *path, we_mapping *out, we_error *err) {
    struct stat facts;
    char reason[128] = "unknown reason";
    we_status status = WE_IO;
    *out = (we_mapping){0};
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0 || fstat(file, &facts) != 0) {
        describe(errno, reason, sizeof reason);
        we_error_set(err, WE_IO, "cannot open the model '%.300s': %s", path, reason);
    } else if (!S_ISREG(facts.st_mode)) {
        we_error_set(err, WE_IO, "the model '%.300s' is not a regular file", path);
    } else if (facts.st_size == 0) {
        status = we_error_set(err, WE_INVALID_MODEL, "the model '%.300s' is empty", path);
    } else {
        void *bytes = mmap(NULL, (size_t)facts.st_size, PROT_READ, MAP_PRIVATE, file, 0);
        if (bytes == MAP_FAILED) {
            describe(errno, reason, sizeof reason);
            we_error_set(err, WE_IO, "cannot map the model '%.300s': %s", path, reason);
        } else {
            *out = (we_mapping){.bytes = bytes, .size = (size_t)facts.st_size, .mapped = 1};
            status = WE_OK;
        }
    }
    if (file >= 0)
        close(file);
    return status;
}

we_status we_mapping_copy(const void *bytes, size_t size, we_mapping *out, we_error *err) {
    void *copy = we_memory_new_dirty(size);
    *out = (we_mapping){0};
    if (!copy)
        return we_error_no_memory(err);
    if (size)
        memcpy(copy, bytes, size);
    *out = (we_mapping){.bytes = copy, .size = size};
    return WE_OK;
}

void we_mapping_close(we_mapping *mapping) {
    if (mapping->mapped)
        munmap((void *)mapping->bytes, mapping->size);
    else
        we_memory_free((void *)mapping->bytes);
    *mapping = (we_mapping){0};
}
