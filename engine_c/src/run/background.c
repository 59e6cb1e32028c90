#include "run/background.h"

#include <pthread.h>

#include "base/error.h"

struct we_background {
    pthread_t thread;
    const we_graph *graph;
    const we_settings *settings;
    const we_view *shapes;
    we_prepared *prepared;
    we_status status;
    we_error error;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done; /* guarded by the lock */
};

static void *prepare(void *context) {
    we_background *b = context;
    b->status = we_prepare(b->graph, b->settings, b->shapes, &b->prepared, NULL, &b->error);
    pthread_mutex_lock(&b->lock);
    b->done = true;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

we_background *we_background_new(const we_graph *graph, const we_settings *settings, const we_view *shapes) {
    we_background *b = we_memory_new(sizeof *b);
    if (!b)
        return NULL;
    b->graph = graph;
    b->settings = settings;
    b->shapes = shapes;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, NULL);
    if (pthread_create(&b->thread, NULL, prepare, b) != 0) {
        we_memory_free(b);
        return NULL;
    }
    return b;
}

bool we_background_is_done(we_background *b) {
    pthread_mutex_lock(&b->lock);
    bool done = b->done;
    pthread_mutex_unlock(&b->lock);
    return done;
}

void we_background_wait(we_background *b) {
    pthread_mutex_lock(&b->lock);
    while (!b->done)
        pthread_cond_wait(&b->changed, &b->lock);
    pthread_mutex_unlock(&b->lock);
}

we_status we_background_take(we_background *b, we_prepared **out, we_error *err) {
    pthread_join(b->thread, NULL);
    we_status status = b->status;
    *out = b->prepared;
    if (status != WE_OK && err)
        *err = b->error;
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    we_memory_free(b);
    return status;
}

void we_background_free(we_background *b) {
    we_prepared *prepared;
    if (b && we_background_take(b, &prepared, NULL) == WE_OK)
        we_prepared_free(prepared);
}
