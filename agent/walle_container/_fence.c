/* _fence: the kernel's own limits on what a thread may do, and a sealed block of memory to hand over.
 *
 * Invariants
 *   1. A fence binds the calling thread and the threads it starts from then on; none can be taken down again.
 *   2. Every fence denies by default: what is not on its list is refused with EPERM, so a task sees a
 *      PermissionError and its worker lives.
 *   3. The kernel's numbers stand here, not in the system's headers, which are often older than the kernel.
 *      Whether the running kernel knows a fence is asked, never inferred from a version.
 */
#define _GNU_SOURCE /* for memfd_create and unshare */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool give_up_privileges(void) {
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

/* ---- Landlock: which files ---------------------------------------------------------------------------- */

enum {
    SYS_LANDLOCK_CREATE_RULESET = 444, /* the same on every architecture */
    SYS_LANDLOCK_ADD_RULE = 445,
    SYS_LANDLOCK_RESTRICT_SELF = 446,
    LANDLOCK_VERSION_ONLY = 1,
    LANDLOCK_BENEATH = 1,
};

#define FILE_READ (1ULL << 2)
#define FOLDER_READ (1ULL << 3)
#define FILES_ALL(abi)                                                                                       \
    (((1ULL << 13) - 1) | ((abi) >= 2 ? 1ULL << 13 : 0) /* move between folders */                           \
     | ((abi) >= 3 ? 1ULL << 14 : 0)                    /* truncate */                                       \
     | ((abi) >= 5 ? 1ULL << 15 : 0))                   /* ioctl of devices */
#define NETWORK_ALL(abi) ((abi) >= 4 ? 3ULL : 0)        /* TCP bind, connect */
#define SCOPES_ALL(abi) ((abi) >= 6 ? 3ULL : 0)         /* abstract Unix sockets, signals */

typedef struct {
    uint64_t files, network, scoped;
} landlock_ruleset;

typedef struct __attribute__((packed)) {
    uint64_t allowed;
    int32_t folder;
} landlock_rule;

static int landlock_version(void) {
    long abi = syscall(SYS_LANDLOCK_CREATE_RULESET, NULL, 0, LANDLOCK_VERSION_ONLY);
    return abi > 0 ? (int)abi : 0;
}

static PyObject *fence_landlock_abi(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromLong(landlock_version());
}

/* Allow reading `path` and what lies below it; a path that is not there needs no rule. False with errno. */
static bool landlock_allow(int ruleset, const char *path) {
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT || errno == ENOTDIR;
    }
    struct stat status;
    bool done = fstat(fd, &status) == 0;
    if (done) {
        landlock_rule rule = {FILE_READ | (S_ISDIR(status.st_mode) ? FOLDER_READ : 0), fd};
        done = syscall(SYS_LANDLOCK_ADD_RULE, ruleset, LANDLOCK_BENEATH, &rule, 0) == 0;
    }
    int error = errno;
    close(fd);
    errno = error;
    return done;
}

static int landlock_allow_all(int ruleset, PyObject *paths) {
    PyObject *items = PySequence_Tuple(paths);
    if (items == NULL) {
        return -1;
    }
    int result = 0;
    for (Py_ssize_t i = 0; result == 0 && i < PyTuple_GET_SIZE(items); ++i) {
        PyObject *path;
        if (!PyUnicode_FSConverter(PyTuple_GET_ITEM(items, i), &path)) {
            result = -1;
        } else {
            if (!landlock_allow(ruleset, PyBytes_AS_STRING(path))) {
                PyErr_SetFromErrnoWithFilename(PyExc_OSError, PyBytes_AS_STRING(path));
                result = -1;
            }
            Py_DECREF(path);
        }
    }
    Py_DECREF(items);
    return result;
}

static PyObject *fence_restrict_files(PyObject *Py_UNUSED(module), PyObject *readable) {
    int abi = landlock_version();
    landlock_ruleset all = {FILES_ALL(abi), NETWORK_ALL(abi), SCOPES_ALL(abi)};
    /* A kernel takes a longer structure than it knows as long as what it does not know is zero. */
    int ruleset = (int)syscall(SYS_LANDLOCK_CREATE_RULESET, &all, sizeof all, 0);
    if (ruleset < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    PyObject *result = NULL;
    if (landlock_allow_all(ruleset, readable) == 0) {
        bool bound = give_up_privileges() && syscall(SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0) == 0;
        result = bound ? Py_NewRef(Py_None) : PyErr_SetFromErrno(PyExc_OSError);
    }
    close(ruleset);
    return result;
}

/* ---- seccomp: which system calls
 * ---------------------------------------------------------------------------- */

#if defined(__x86_64__)
#define THIS_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_ARCH AUDIT_ARCH_AARCH64
#endif

#ifdef THIS_ARCH
/* What a run needs: its channel, its memory, clocks, and reading files, which Landlock narrows further. */
static const int syscalls_allowed[] = {
    SYS_read,
    SYS_write,
    SYS_readv,
    SYS_writev,
    SYS_pread64,
    SYS_lseek,
    SYS_close,
    SYS_fcntl,
    SYS_sendto,
    SYS_recvfrom,
    SYS_sendmsg,
    SYS_recvmsg,
    SYS_ppoll,
    SYS_pselect6,
    /* files */
    SYS_openat,
    SYS_fstat,
    SYS_newfstatat,
    SYS_statx,
    SYS_readlinkat,
    SYS_faccessat,
    439 /* faccessat2 */,
    SYS_getdents64,
    SYS_getcwd,
    /* memory */
    SYS_mmap,
    SYS_munmap,
    SYS_mprotect,
    SYS_mremap,
    SYS_madvise,
    SYS_brk,
    SYS_memfd_create,
    SYS_ftruncate,
    /* threads and signals */
    SYS_futex,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_set_robust_list,
    SYS_set_tid_address,
    SYS_rseq,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_restart_syscall,
    SYS_membarrier,
    SYS_getcpu,
    SYS_exit,
    SYS_exit_group,
    /* clocks and facts */
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_clock_nanosleep,
    SYS_nanosleep,
    SYS_gettimeofday,
    SYS_getrandom,
    SYS_getpid,
    SYS_gettid,
    SYS_getppid,
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_uname,
    SYS_sysinfo,
    SYS_getrusage,
    SYS_times,
#ifdef __x86_64__ /* the older spellings */
    SYS_open,
    SYS_stat,
    SYS_lstat,
    SYS_readlink,
    SYS_access,
    SYS_poll,
    SYS_select,
    SYS_time,
#endif
};

enum {
    SYS_CLONE3 = 435,
    SECCOMP_BY_SYSCALL_FILTER = 1, /* seccomp(2)'s operation SECCOMP_SET_MODE_FILTER */
    SYSCALLS = sizeof syscalls_allowed / sizeof syscalls_allowed[0],
    PROGRAM_MAX = 2 * SYSCALLS + 48,
};

typedef struct {
    struct sock_filter code[PROGRAM_MAX];
    unsigned short length;
} program;

static void emit(program *p, uint16_t code, uint8_t if_true, uint8_t if_false, uint32_t operand) {
    p->code[p->length++] = (struct sock_filter){code, if_true, if_false, operand};
}

static void emit_load(program *p, size_t offset) {
    emit(p, BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)offset);
}

static void emit_return(program *p, uint32_t verdict) {
    emit(p, BPF_RET | BPF_K, 0, 0, verdict);
}

/* If what is loaded equals `value`, go on; else skip the next `skip` instructions. */
static void emit_unless_skip(program *p, uint32_t value, uint8_t skip) {
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, 0, skip, value);
}

static void emit_verdict_on(program *p, int number, uint32_t verdict) {
    emit_unless_skip(p, (uint32_t)number, 1);
    emit_return(p, verdict);
}

/* Offset of the low word of an argument, and of the high one; both architectures are little-endian. */
static size_t argument(int index, int word) {
    return offsetof(struct seccomp_data, args) + 8 * (size_t)index + 4 * (size_t)word;
}

static const uint32_t refuse = SECCOMP_RET_ERRNO | EPERM;

/* New threads, but no new processes or namespaces. */
static void emit_clone(program *p) {
    const uint32_t thread = CLONE_VM | CLONE_THREAD | CLONE_SIGHAND;
    const uint32_t namespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
                                CLONE_NEWPID | CLONE_NEWNET;
    emit_verdict_on(p, SYS_CLONE3, SECCOMP_RET_ERRNO | ENOSYS); /* libc then calls clone, whose flags show */
    emit_unless_skip(p, SYS_clone, 5);
    emit_load(p, argument(0, 0));
    emit(p, BPF_ALU | BPF_AND | BPF_K, 0, 0, thread | namespaces);
    emit_unless_skip(p, thread, 1);
    emit_return(p, SECCOMP_RET_ALLOW);
    emit_return(p, refuse);
}

/* A signal only to this very process, and only the one of abort(): it makes the end of a worker say why. */
static void emit_abort(program *p) {
    emit_unless_skip(p, SYS_tgkill, 6);
    emit_load(p, argument(0, 0));
    emit_unless_skip(p, (uint32_t)getpid(), 3);
    emit_load(p, argument(2, 0));
    emit_unless_skip(p, SIGABRT, 1);
    emit_return(p, SECCOMP_RET_ALLOW);
    emit_return(p, refuse);
}

/* prlimit that asks and sets nothing. */
static void emit_limits(program *p) {
    emit_unless_skip(p, SYS_prlimit64, 6);
    emit_load(p, argument(2, 0));
    emit_unless_skip(p, 0, 3);
    emit_load(p, argument(2, 1));
    emit_unless_skip(p, 0, 1);
    emit_return(p, SECCOMP_RET_ALLOW);
    emit_return(p, refuse);
}

static void build(program *p) {
    p->length = 0;
    emit_load(p, offsetof(struct seccomp_data, arch));
    emit_unless_skip(p, THIS_ARCH, 1);
    emit(p, BPF_JMP | BPF_JA, 0, 0, 1);
    emit_return(p, SECCOMP_RET_KILL_PROCESS); /* numbers of another architecture mean other calls */
    emit_load(p, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < SYSCALLS; ++i) {
        emit_verdict_on(p, syscalls_allowed[i], SECCOMP_RET_ALLOW);
    }
    emit_verdict_on(p, SYS_ioctl, SECCOMP_RET_ERRNO | ENOTTY); /* open() asks whether a file is a terminal */
    emit_clone(p); /* each of these loads something else only where it ends the program */
    emit_abort(p);
    emit_limits(p);
    emit_return(p, refuse);
}

static PyObject *fence_has_seccomp(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    const uint32_t verdict = SECCOMP_RET_ERRNO;
    return PyBool_FromLong(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &verdict) == 0);
}

static PyObject *fence_restrict_syscalls(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    program filter;
    build(&filter);
    struct sock_fprog sent = {filter.length, filter.code};
    if (!give_up_privileges() || syscall(SYS_seccomp, SECCOMP_BY_SYSCALL_FILTER, 0, &sent) != 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}
#else
static PyObject *fence_has_seccomp(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    Py_RETURN_FALSE; /* the list of system calls has not been tried on this architecture */
}

static PyObject *fence_restrict_syscalls(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    errno = ENOSYS;
    return PyErr_SetFromErrno(PyExc_OSError);
}
#endif

/* ---- Network: none
 * ------------------------------------------------------------------------------------------ */

static PyObject *fence_leave_network(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    /* Root may have a network namespace of its own; others where the system lets them have a user one. */
    return PyBool_FromLong(unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0);
}

/* ---- Module
 * ------------------------------------------------------------------------------------------------- */

static PyMethodDef fence_methods[] = {
    {"landlock_abi", fence_landlock_abi, METH_NOARGS, PyDoc_STR("landlock_abi() -> int")},
    {"has_seccomp", fence_has_seccomp, METH_NOARGS, PyDoc_STR("has_seccomp() -> bool")},
    {"restrict_files", fence_restrict_files, METH_O, PyDoc_STR("restrict_files(readable) -> None")},
    {"restrict_syscalls", fence_restrict_syscalls, METH_NOARGS, PyDoc_STR("restrict_syscalls() -> None")},
    {"leave_network", fence_leave_network, METH_NOARGS, PyDoc_STR("leave_network() -> bool")},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot fence_slots[] = {
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
    {0, NULL},
};

static struct PyModuleDef fence_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "walle_container._fence",
    .m_doc = PyDoc_STR("What the kernel keeps a thread from: files, system calls, the network."),
    .m_methods = fence_methods,
    .m_slots = fence_slots,
};

PyMODINIT_FUNC PyInit__fence(void) {
    return PyModuleDef_Init(&fence_module);
}
