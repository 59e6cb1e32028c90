#include "base/switches.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static const struct {
    const char *word;
    uint32_t flag;
} SWITCHES[] = {
#define WE_SWITCH_ROW(WORD, word) {word, WE_SESSION_NO_##WORD},
#include "base/switches.inc"
#undef WE_SWITCH_ROW
};

enum {
    SWITCH_COUNT = sizeof SWITCHES / sizeof *SWITCHES,
};

static bool find(const char *word, size_t length, uint32_t *flag) {
    for (size_t i = 0; i < SWITCH_COUNT; i++) {
        if (strlen(SWITCHES[i].word) == length && strncmp(word, SWITCHES[i].word, length) == 0) {
            *flag = SWITCHES[i].flag;
            return true;
        }
    }
    return false;
}

static we_status unknown(const char *word, size_t length, we_error *err) {
    char legal[128] = "";
    for (size_t i = 0; i < SWITCH_COUNT; i++) {
        size_t used = strlen(legal);
        snprintf(legal + used, sizeof legal - used, "%s%s", i ? ", " : "", SWITCHES[i].word);
    }
    return we_error_set(err, WE_CONFIG,
                        "WALLE_ENGINE_DISABLE holds '%.*s', which is no optimisation; use some of: %s",
                        (int)(length < 40 ? length : 40), word, legal);
}

we_status we_switches_parse(const char *words, uint32_t *out, we_error *err) {
    *out = 0;
    while (words && *words) {
        size_t length = strcspn(words, ",");
        uint32_t flag;
        if (!find(words, length, &flag))
            return unknown(words, length, err);
        *out |= flag;
        words += length + (words[length] == ',');
    }
    return WE_OK;
}

static struct {
    pthread_once_t once;
    we_status status;
    uint32_t off;
    we_error error;
} process = {.once = PTHREAD_ONCE_INIT};

static void read_once(void) {
    process.status = we_switches_parse(getenv("WALLE_ENGINE_DISABLE"), &process.off, &process.error);
}

we_status we_switches_off(uint32_t *out, we_error *err) {
    pthread_once(&process.once, read_once);
    *out = process.off;
    if (process.status != WE_OK && err)
        *err = process.error;
    return process.status;
}
