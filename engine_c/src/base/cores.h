/* How many cores this process may use: its affinity, and the CPU quota of its control group. */
#ifndef WE_BASE_CORES_H
#define WE_BASE_CORES_H

#include <stdint.h>

int32_t we_cores(void); /* at least 1; asked anew at each call */

/* Cores that a control group's quota leaves, rounded up; INT32_MAX where nothing limits them. `cgroup` is the
 * path of a file like /proc/self/cgroup, `mount` where the groups are mounted. A group is limited by those it
 * lies in as well. Source: the kernel's Documentation/admin-guide/cgroup-v2.rst (cpu.max) and
 * scheduler/sched-bwc.rst (cpu.cfs_quota_us). */
int32_t we_cores_quota(const char *cgroup, const char *mount);

#endif
