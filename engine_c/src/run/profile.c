#include "run/profile.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"

struct we_profile {
    _Atomic bool on;
    pthread_mutex_t lock; /* guards all below */
    we_clock clock_s;
    void *context;
    we_profile_event *events;
    size_t count, room;
    int64_t dropped;
    int64_t recording; /* counts the starts */
};

static double monotonic(void *context) {
    (void)context;
    return we_clock_now_s();
}

we_status we_profile_new(we_profile **out, we_error *err) {
    we_profile *profile = we_memory_new(sizeof *profile);
    if (!profile)
        return we_error_no_memory(err);
    profile->clock_s = monotonic;
    pthread_mutex_init(&profile->lock, NULL);
    *out = profile;
    return WE_OK;
}

void we_profile_free(we_profile *profile) {
    if (!profile)
        return;
    pthread_mutex_destroy(&profile->lock);
    we_memory_free(profile->events);
    we_memory_free(profile);
}

void we_profile_start(we_profile *profile, we_clock clock_s, void *context) {
    pthread_mutex_lock(&profile->lock);
    profile->clock_s = clock_s ? clock_s : monotonic;
    profile->context = context;
    profile->count = 0;
    profile->dropped = 0;
    profile->recording++;
    pthread_mutex_unlock(&profile->lock);
    atomic_store(&profile->on, true);
}

bool we_profile_is_on(we_profile *profile) {
    return atomic_load_explicit(&profile->on, memory_order_relaxed);
}

void we_profile_stop(we_profile *profile) {
    atomic_store(&profile->on, false);
}

size_t we_profile_count(we_profile *profile, int64_t *dropped) {
    pthread_mutex_lock(&profile->lock);
    size_t count = profile->count;
    *dropped = profile->dropped;
    pthread_mutex_unlock(&profile->lock);
    return count;
}

bool we_profile_get(we_profile *profile, size_t index, we_profile_event *out) {
    pthread_mutex_lock(&profile->lock);
    bool found = index < profile->count;
    if (found)
        *out = profile->events[index];
    pthread_mutex_unlock(&profile->lock);
    return found;
}

static double now(we_profile *profile, int64_t *recording) {
    pthread_mutex_lock(&profile->lock);
    we_clock clock_s = profile->clock_s;
    void *context = profile->context;
    *recording = profile->recording;
    pthread_mutex_unlock(&profile->lock);
    return clock_s(context); /* not under the lock: it is the caller's code */
}

bool we_profile_begin(we_profile *profile, we_profile_event *event, int64_t *recording) {
    if (!we_profile_is_on(profile))
        return false;
    event->start_s = now(profile, recording);
    return true;
}

void we_profile_end(we_profile *profile, we_profile_event *event, int64_t recording) {
    int64_t latest;
    event->end_s = now(profile, &latest);
    event->thread = (int64_t)(uintptr_t)pthread_self();
    pthread_mutex_lock(&profile->lock);
    if (recording == profile->recording) {
        if (profile->count < WE_PROFILE_EVENTS && we_memory_grow((void **)&profile->events, &profile->room,
                                                                 profile->count, sizeof *profile->events))
            profile->events[profile->count++] = *event;
        else
            profile->dropped++;
    }
    pthread_mutex_unlock(&profile->lock);
}
