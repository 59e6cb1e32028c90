/* One mapped model per file, whichever interpreter asks.
 *
 * The mutex is never waited for by a thread that holds a GIL, except to drop a reference, and its holder
 * never asks for a GIL.
 */
#include "native.h" /* first, as Python.h must be */

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct shared_model {
    shared_model *next;
    we_model *model;
    size_t users;
    dev_t device; /* device, inode, size and times tell one state of one file from another */
    ino_t inode;
    off_t size;
    struct timespec modified, changed;
};

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static shared_model *registry; /* guarded by registry_lock */

static bool same_file(const shared_model *entry, const struct stat *file) {
    return entry->device == file->st_dev && entry->inode == file->st_ino && entry->size == file->st_size &&
           memcmp(&entry->modified, &file->st_mtim, sizeof file->st_mtim) == 0 &&
           memcmp(&entry->changed, &file->st_ctim, sizeof file->st_ctim) == 0;
}

/* Find or load. Holding the lock while loading makes a second asker wait for the first one's model. */
we_status we_native_registry_open(const char *path, shared_model **out, we_error *error) {
    struct stat file = {0};
    bool known = stat(path, &file) == 0; /* where not, loading says why */
    we_status status = WE_OK;
    *out = NULL;
    pthread_mutex_lock(&registry_lock);
    for (shared_model *entry = registry; known && entry != NULL; entry = entry->next) {
        if (same_file(entry, &file)) {
            entry->users++;
            *out = entry;
            break;
        }
    }
    if (*out == NULL) {
        shared_model *entry = calloc(1, sizeof *entry);
        if (entry == NULL) {
            status = WE_OUT_OF_MEMORY;
            *error = (we_error){.status = status, .message = "no memory for a model"};
        } else if ((status = we_model_load(path, &entry->model, error)) != WE_OK) {
            free(entry);
        } else {
            *entry = (shared_model){registry,     entry->model, 1,           file.st_dev, file.st_ino,
                                    file.st_size, file.st_mtim, file.st_ctim};
            registry = entry;
            *out = entry;
        }
    }
    pthread_mutex_unlock(&registry_lock);
    return status;
}

we_status we_native_registry_take(const void *bytes, size_t size, shared_model **out, we_error *error) {
    shared_model *entry = calloc(1, sizeof *entry);
    *out = NULL;
    if (entry == NULL) {
        *error = (we_error){.status = WE_OUT_OF_MEMORY, .message = "no memory for a model"};
        return WE_OUT_OF_MEMORY;
    }
    we_status status = we_model_load_memory(bytes, size, &entry->model, error);
    if (status != WE_OK) {
        free(entry);
        return status;
    }
    entry->users = 1;
    entry->size = -1; /* as no file has */
    pthread_mutex_lock(&registry_lock);
    entry->next = registry;
    registry = entry;
    pthread_mutex_unlock(&registry_lock);
    *out = entry;
    return WE_OK;
}

void we_native_registry_close(shared_model *entry) {
    pthread_mutex_lock(&registry_lock);
    bool last = --entry->users == 0;
    if (last) {
        shared_model **link = &registry;
        while (*link != entry) {
            link = &(*link)->next;
        }
        *link = entry->next;
    }
    pthread_mutex_unlock(&registry_lock);
    if (last) {
        we_model_release(entry->model);
        free(entry);
    }
}

we_model *we_native_registry_model(const shared_model *entry) {
    return entry->model;
}
