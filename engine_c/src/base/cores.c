#include "base/cores.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    PATH_ROOM = 4096,
};

static int32_t least(int32_t a, int32_t b) {
    return a < b ? a : b;
}

static int32_t cores_of(int64_t quota_us, int64_t period_us) {
    if (quota_us <= 0 || period_us <= 0 || quota_us / period_us >= INT32_MAX)
        return INT32_MAX;
    return (int32_t)((quota_us + period_us - 1) / period_us);
}

/* The first number of a file; false where there is none, as in "max". */
static bool read_number(const char *folder, const char *name, long long *out, long long *second) {
    char path[PATH_ROOM];
    int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = length > 0 && length < PATH_ROOM ? fopen(path, "re") : NULL;
    if (!file)
        return false;
    bool found = fscanf(file, "%lld", out) == 1 && (!second || fscanf(file, "%lld", second) == 1);
    fclose(file);
    return found;
}

static int32_t quota_of(const char *folder, bool unified) {
    long long quota, period;
    bool found = unified ? read_number(folder, "cpu.max", &quota, &period)
                         : read_number(folder, "cpu.cfs_quota_us", &quota, NULL) &&
                               read_number(folder, "cpu.cfs_period_us", &period, NULL);
    return found ? cores_of(quota, period) : INT32_MAX;
}

/* The least of a group's quota and those of the groups it lies in. */
static int32_t quota_upwards(const char *mount, const char *group, bool unified) {
    char folder[PATH_ROOM];
    size_t root = strlen(mount);
    int length = snprintf(folder, sizeof folder, "%s%s", mount, group);
    int32_t cores = INT32_MAX;
    if (length <= 0 || length >= PATH_ROOM)
        return cores;
    for (;;) {
        cores = least(cores, quota_of(folder, unified));
        char *slash = strrchr(folder, '/');
        if (!slash || (size_t)(slash - folder) < root)
            return cores;
        *slash = '\0';
    }
}

static bool has_cpu(const char *controllers) {
    size_t length;
    for (; *controllers; controllers += length + (controllers[length] == ',')) {
        length = strcspn(controllers, ",");
        if (length == 3 && strncmp(controllers, "cpu", 3) == 0)
            return true;
    }
    return false;
}

int32_t we_cores_quota(const char *cgroup, const char *mount) {
    char line[PATH_ROOM], folder[PATH_ROOM];
    int32_t cores = INT32_MAX;
    FILE *file = fopen(cgroup, "re");
    while (file && fgets(line, sizeof line, file)) { /* number:controllers:group */
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        bool unified = *++controllers == '\0';
        int length = snprintf(folder, sizeof folder, "%s%s", mount, unified ? "" : "/cpu");
        if (length > 0 && length < PATH_ROOM && (unified || has_cpu(controllers)))
            cores = least(cores, quota_upwards(folder, group, unified));
    }
    if (file)
        fclose(file);
    return cores;
}

static int32_t affinity(void) {
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return CPU_COUNT(&set);
#endif
    long online = sysconf(_SC_NPROCESSORS_ONLN); /* also where the mask is too small for the machine */
    return online > 0 && online < INT32_MAX ? (int32_t)online : 1;
}

int32_t we_cores(void) {
    int32_t cores = least(affinity(), we_cores_quota("/proc/self/cgroup", "/sys/fs/cgroup"));
    return cores < 1 ? 1 : cores;
}
