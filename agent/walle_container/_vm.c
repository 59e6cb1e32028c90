/* _vm: what a compute container needs from CPython and cannot get in Python.
 *
 * Invariants
 *   1. Public C API only; multi-phase initialisation; loads in isolated interpreters with their own GIL.
 *   2. A run can be interrupted only inside guard(). An asynchronous exception that was injected but not yet
 *      delivered is dropped when guard() returns, so the code round guard() never sees one.
 *   3. A slot record's plain fields are read and written only under the GIL of the interpreter that owns it;
 *      the atomic fields may be read from anywhere.
 *   4. The quota follows the thread. It counts what CPython's allocators take from the system (whole arenas
 * of small objects, and every larger block) and what the tensor engine takes, which asks through
 * memory_account. What other C libraries take with their own malloc is not seen.
 *   5. A frame is sent or received whole by one call, so an interrupt never leaves half a frame in the
 * channel. It may carry one descriptor: a block of shared memory.
 *   6. Inside guard() every audit event that is not on the list below is refused. That catches mistakes that
 * went round the import rules; it is no wall, since some calls raise no event (os._exit) and native code
 * raises none.
 *   7. The allocators are wrapped once per process, before the first sub-interpreter exists, and never
 * unwrapped.
 *   8. Shared memory is mapped only if its seals say that nobody can change it or its size any more.
 */
#define _GNU_SOURCE /* for memfd_create */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* ---- memory quota
 * ------------------------------------------------------------------------------------------- */

typedef struct {
    bool on;
    int64_t used_bytes; /* may be negative: a run may free what an earlier one left */
    int64_t peak_bytes;
    int64_t limit_bytes;
} quota_account;

static _Thread_local quota_account quota;

static PyMemAllocatorEx raw_below;
static PyObjectArenaAllocator arena_below;
static atomic_bool quota_installed;

static bool quota_allows(size_t size) {
    return size <= (size_t)PY_SSIZE_T_MAX && quota.used_bytes + (int64_t)size <= quota.limit_bytes;
}

static void quota_charge(int64_t size) {
    quota.used_bytes += size;
    if (quota.used_bytes > quota.peak_bytes) {
        quota.peak_bytes = quota.used_bytes;
    }
}

static void *quota_charge_block(void *block) {
    if (block != NULL) {
        quota_charge((int64_t)malloc_usable_size(block));
    }
    return block;
}

static void *quota_raw_malloc(void *Py_UNUSED(context), size_t size) {
    if (!quota.on) {
        return raw_below.malloc(raw_below.ctx, size);
    }
    return quota_allows(size) ? quota_charge_block(raw_below.malloc(raw_below.ctx, size)) : NULL;
}

static void *quota_raw_calloc(void *Py_UNUSED(context), size_t count, size_t size) {
    if (!quota.on) {
        return raw_below.calloc(raw_below.ctx, count, size);
    }
    if (size != 0 && count > (size_t)PY_SSIZE_T_MAX / size) {
        return NULL;
    }
    return quota_allows(count * size) ? quota_charge_block(raw_below.calloc(raw_below.ctx, count, size))
                                      : NULL;
}

static void *quota_raw_realloc(void *Py_UNUSED(context), void *block, size_t size) {
    if (!quota.on) {
        return raw_below.realloc(raw_below.ctx, block, size);
    }
    int64_t before = block != NULL ? (int64_t)malloc_usable_size(block) : 0;
    if ((int64_t)size > before && !quota_allows(size - (size_t)before)) {
        return NULL;
    }
    void *moved = raw_below.realloc(raw_below.ctx, block, size);
    if (moved != NULL) {
        quota_charge((int64_t)malloc_usable_size(moved) - before);
    }
    return moved;
}

static void quota_raw_free(void *Py_UNUSED(context), void *block) {
    if (quota.on && block != NULL) {
        quota_charge(-(int64_t)malloc_usable_size(block));
    }
    raw_below.free(raw_below.ctx, block);
}

static void *quota_arena_alloc(void *Py_UNUSED(context), size_t size) {
    if (!quota.on) {
        return arena_below.alloc(arena_below.ctx, size);
    }
    if (!quota_allows(size)) {
        return NULL;
    }
    void *arena = arena_below.alloc(arena_below.ctx, size);
    if (arena != NULL) {
        quota_charge((int64_t)size);
    }
    return arena;
}

static void quota_arena_free(void *Py_UNUSED(context), void *arena, size_t size) {
    if (quota.on) {
        quota_charge(-(int64_t)size);
    }
    arena_below.free(arena_below.ctx, arena, size);
}

static PyObject *vm_install_quota(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (!atomic_exchange(&quota_installed, true)) {
        PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &raw_below);
        PyObject_GetArenaAllocator(&arena_below);
        PyMemAllocatorEx raw = {NULL, quota_raw_malloc, quota_raw_calloc, quota_raw_realloc, quota_raw_free};
        PyObjectArenaAllocator arena = {NULL, quota_arena_alloc, quota_arena_free};
        PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &raw);
        PyObject_SetArenaAllocator(&arena);
    }
    Py_RETURN_NONE;
}

/* The same account for others, as the engine declares it (we_memory_account). */
typedef struct {
    int (*allows)(size_t bytes);
    void (*charge)(int64_t bytes);
} memory_account;

static int account_allows(size_t bytes) {
    return !quota.on || quota_allows(bytes);
}

static void account_charge(int64_t bytes) {
    if (quota.on) {
        quota_charge(bytes);
    }
}

static const memory_account shared_account = {account_allows, account_charge};

static PyObject *vm_memory_account(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return PyCapsule_New((void *)&shared_account, "walle.memory_account", NULL);
}

/* ---- audit policy: deny by default
 * ------------------------------------------------------------------------------ */

static _Thread_local bool policy_on;
static atomic_bool policy_installed;

/* What plain Python code and the import of the modules it may have raise on the way. Sorted, for bsearch. */
static const char *const policy_allowed[] = {
    "array.__new__",
    "builtins.id",
    "compile",
    "exec",
    "function.__new__",
    "import",
    "marshal.loads",
    "object.__delattr__",
    "object.__getattr__",
    "object.__setattr__",
    "os.listdir",
    "os.scandir",
    "pathlib.Path.glob",
    "sys._getframe",
    "sys._getframemodulename",
    "sys.unraisablehook",
    "time.sleep",
};

static int policy_compare(const void *name, const void *entry) {
    return strcmp(name, *(const char *const *)entry);
}

/* The event open(path, mode, flags): reading is fine, since imports read. */
static bool policy_only_reads(PyObject *arguments) {
    if (!PyTuple_Check(arguments) || PyTuple_GET_SIZE(arguments) < 3) {
        return false;
    }
    PyObject *flags = PyTuple_GET_ITEM(arguments, 2);
    long bits = PyLong_Check(flags) ? PyLong_AsLong(flags) : -1;
    return (bits & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND)) == 0;
}

static int policy_audit(const char *event, PyObject *arguments, void *Py_UNUSED(data)) {
    if (!policy_on) {
        return 0;
    }
    size_t count = sizeof policy_allowed / sizeof policy_allowed[0];
    if (bsearch(event, policy_allowed, count, sizeof policy_allowed[0], policy_compare) != NULL) {
        return 0;
    }
    if (strcmp(event, "open") == 0 && policy_only_reads(arguments)) {
        return 0;
    }
    PyErr_Format(PyExc_PermissionError, "a task may not do this: %s", event);
    return -1;
}

static PyObject *vm_install_policy(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    if (!atomic_exchange(&policy_installed, true) && PySys_AddAuditHook(policy_audit, NULL) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- slots: who runs what, and may it be interrupted
 * ----------------------------------------------------------- */

enum { SLOT_MAX = 64 };

/* A swallow-all loop ends after a few dozen injections; past this many, every further line of the run raises.
 */
enum { TRACE_AFTER_INTERRUPTS = 20 };

typedef struct {
    atomic_bool taken;
    atomic_llong interpreter_id;
    atomic_llong run; /* 0: between runs */
    PyInterpreterState *interpreter;
    PyObject *interrupted_type; /* borrowed from the module state */
    unsigned long thread;
    int interrupts; /* of the present run */
    bool guarded;
} slot_record;

static slot_record slots[SLOT_MAX];

typedef struct {
    PyObject *interrupted_type;
    PyTypeObject *shared_type;
    slot_record *slot;
} module_state;

static slot_record *slot_claim(module_state *state) {
    for (int i = 0; i < SLOT_MAX; ++i) {
        slot_record *slot = &slots[i];
        bool expected = false;
        if (!atomic_compare_exchange_strong(&slot->taken, &expected, true)) {
            continue;
        }
        slot->interpreter = PyInterpreterState_Get();
        slot->interrupted_type = state->interrupted_type;
        slot->thread = 0;
        slot->guarded = false;
        atomic_store(&slot->run, 0);
        atomic_store(&slot->interpreter_id, (long long)PyInterpreterState_GetID(slot->interpreter));
        return slot;
    }
    PyErr_Format(PyExc_RuntimeError, "more than %d interpreters run tasks in this process", (int)SLOT_MAX);
    return NULL;
}

static slot_record *slot_find(long long interpreter_id) {
    for (int i = 0; i < SLOT_MAX; ++i) {
        if (atomic_load(&slots[i].taken) && atomic_load(&slots[i].interpreter_id) == interpreter_id) {
            return &slots[i];
        }
    }
    return NULL;
}

static PyObject *vm_begin(PyObject *module, PyObject *argument) {
    module_state *state = PyModule_GetState(module);
    long long run = PyLong_AsLongLong(argument);
    if (run == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (run <= 0) {
        return PyErr_Format(PyExc_ValueError, "run must be positive, not %lld", run);
    }
    if (state->slot == NULL && (state->slot = slot_claim(state)) == NULL) {
        return NULL;
    }
    state->slot->thread = PyThread_get_thread_ident();
    state->slot->interrupts = 0;
    atomic_store(&state->slot->run, run);
    Py_RETURN_NONE;
}

static PyObject *vm_end(PyObject *module, PyObject *Py_UNUSED(unused)) {
    module_state *state = PyModule_GetState(module);
    if (state->slot != NULL) {
        atomic_store(&state->slot->run, 0);
    }
    Py_RETURN_NONE;
}

static int64_t thread_cpu_ns(void) {
    struct timespec now;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) != 0) {
        return 0;
    }
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static PyObject *vm_thread_cpu_ns(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromLongLong(thread_cpu_ns());
}

/* Leaves the guarded section: from here on nothing is injected, and what was injected is forgotten. */
static void slot_unguard(slot_record *slot) {
    slot->guarded = false;
    if (slot->interrupts > 0) {
        PyThreadState_SetAsyncExc(slot->thread, NULL);
        PyEval_SetTrace(NULL, NULL);
    }
}

static PyObject *vm_guard(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    module_state *state = PyModule_GetState(module);
    if (count != 2) {
        return PyErr_Format(PyExc_TypeError, "guard takes a memory limit and a callable, not %zd arguments",
                            count);
    }
    long long limit_bytes = PyLong_AsLongLong(arguments[0]);
    if (limit_bytes == -1 && PyErr_Occurred()) {
        return NULL;
    }
    slot_record *slot = state->slot;
    if (slot == NULL || atomic_load(&slot->run) == 0) {
        PyErr_SetString(PyExc_RuntimeError, "call begin() before guard()");
        return NULL;
    }
    int64_t started_ns = thread_cpu_ns();
    bool counted = atomic_load(&quota_installed) && limit_bytes > 0;
    quota = (quota_account){.on = counted, .limit_bytes = limit_bytes};
    slot->guarded = true;
    policy_on = true;
    PyObject *value = PyObject_CallNoArgs(arguments[1]);
    policy_on = false;
    PyObject *error = value == NULL ? PyErr_GetRaisedException() : NULL;
    slot_unguard(slot);
    quota.on = false;
    return Py_BuildValue(
        "(NNLLi)", value != NULL ? value : Py_NewRef(Py_None), error != NULL ? error : Py_NewRef(Py_None),
        (long long)(thread_cpu_ns() - started_ns), (long long)quota.peak_bytes, slot->interrupts);
}

static int trace_raise(PyObject *interrupted_type, PyFrameObject *Py_UNUSED(frame), int what,
                       PyObject *Py_UNUSED(argument)) {
    if (what != PyTrace_LINE && what != PyTrace_CALL) {
        return 0;
    }
    PyErr_SetNone(interrupted_type);
    return -1;
}

/* Called with the GIL of the slot's own interpreter. */
static void slot_inject(slot_record *slot) {
    slot->interrupts += 1;
    PyThreadState_SetAsyncExc(slot->thread, slot->interrupted_type);
    if (slot->interrupts == TRACE_AFTER_INTERRUPTS) {
        PyEval_SetTraceAllThreads(trace_raise, slot->interrupted_type);
    }
}

static PyObject *vm_interrupt(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count) {
    if (count != 2) {
        return PyErr_Format(PyExc_TypeError, "interrupt takes an interpreter id and a run, not %zd arguments",
                            count);
    }
    long long interpreter_id = PyLong_AsLongLong(arguments[0]);
    long long run = PyLong_AsLongLong(arguments[1]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    slot_record *slot = slot_find(interpreter_id);
    if (slot == NULL || run <= 0 || atomic_load(&slot->run) != run) {
        Py_RETURN_FALSE;
    }
    if (slot->interpreter == PyInterpreterState_Get()) {
        PyErr_SetString(PyExc_RuntimeError, "an interpreter cannot interrupt itself");
        return NULL;
    }
    PyThreadState *visitor = PyThreadState_New(slot->interpreter);
    if (visitor == NULL) {
        return PyErr_NoMemory();
    }
    PyThreadState *home = PyThreadState_Swap(visitor); /* waits for the slot's GIL, without holding ours */
    bool current = atomic_load(&slot->run) == run;
    if (current && slot->guarded) {
        slot_inject(slot);
    }
    PyThreadState_Clear(visitor);
    PyThreadState_Swap(home);
    PyThreadState_Delete(visitor);
    return PyBool_FromLong(current);
}

/* ---- frames: uint32 little-endian length, then that many bytes
 * ------------------------------------------------- */

enum { FRAME_HEADER_BYTES = 4 };

/* All return false with errno set; receive leaves errno 0 where the peer has closed. No GIL is needed. */
static bool send_all(int fd, const void *data, size_t size) {
    const char *at = data;
    while (size > 0) {
        ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0) {
            return false;
        }
        at += sent;
        size -= (size_t)sent;
    }
    return true;
}

static bool receive_all(int fd, void *data, size_t size) {
    char *at = data;
    while (size > 0) {
        ssize_t received = read(fd, at, size);
        if (received < 0 && errno == EINTR) {
            continue;
        }
        if (received <= 0) {
            errno = received == 0 ? 0 : errno;
            return false;
        }
        at += received;
        size -= (size_t)received;
    }
    return true;
}

/* Room for one descriptor beside the bytes of a message, aligned as the kernel wants it. */
typedef union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
} descriptor_room;

/* The header, with the descriptor that came beside it; more than the one is closed by the kernel. */
static bool receive_header(int fd, unsigned char header[FRAME_HEADER_BYTES], int *attached) {
    descriptor_room room;
    struct iovec part = {header, FRAME_HEADER_BYTES};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = room.bytes, .msg_controllen = sizeof room.bytes};
    ssize_t received;
    do {
        received = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    } while (received < 0 && errno == EINTR);
    if (received <= 0) {
        errno = received == 0 ? 0 : errno;
        return false;
    }
    struct cmsghdr *control = CMSG_FIRSTHDR(&message);
    if (control != NULL && control->cmsg_level == SOL_SOCKET && control->cmsg_type == SCM_RIGHTS) {
        memcpy(attached, CMSG_DATA(control), sizeof *attached);
    }
    return receive_all(fd, header + received, FRAME_HEADER_BYTES - (size_t)received);
}

/* `attached`: a descriptor to send along, or -1. One call for all of it: the peer wakes once, to a whole
 * frame. */
static bool frame_send(int fd, const void *data, uint32_t size, int attached) {
    unsigned char header[FRAME_HEADER_BYTES] = {(unsigned char)size, (unsigned char)(size >> 8),
                                                (unsigned char)(size >> 16), (unsigned char)(size >> 24)};
    struct iovec parts[] = {{header, sizeof header}, {(void *)data, size}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    descriptor_room room = {.bytes = {0}};
    if (attached >= 0) {
        message.msg_control = room.bytes;
        message.msg_controllen = sizeof room.bytes;
        struct cmsghdr *control = CMSG_FIRSTHDR(&message);
        control->cmsg_level = SOL_SOCKET;
        control->cmsg_type = SCM_RIGHTS;
        control->cmsg_len = CMSG_LEN(sizeof attached);
        memcpy(CMSG_DATA(control), &attached, sizeof attached);
    }
    ssize_t first;
    do {
        first = sendmsg(fd, &message, MSG_NOSIGNAL);
    } while (first < 0 && errno == EINTR);
    if (first < 0) {
        return false;
    }
    size_t sent = (size_t)first, head = sent < sizeof header ? sent : sizeof header;
    return send_all(fd, header + head, sizeof header - head) &&
           send_all(fd, (const char *)data + (sent - head), size - (sent - head));
}

typedef struct {
    void *data;
    uint32_t size;
    int attached; /* -1: none */
} frame;

/* Takes the buffer from the C heap, not from Python's: a run over its quota must still empty the channel. */
static bool frame_receive(int fd, uint32_t max_bytes, frame *out) {
    unsigned char header[FRAME_HEADER_BYTES];
    *out = (frame){.attached = -1};
    bool received = receive_header(fd, header, &out->attached);
    if (received) {
        out->size = (uint32_t)header[0] | (uint32_t)header[1] << 8 | (uint32_t)header[2] << 16 |
                    (uint32_t)header[3] << 24;
        errno = EMSGSIZE;
        received = out->size <= max_bytes;
    }
    if (received) {
        out->data = malloc(out->size != 0 ? out->size : 1);
        errno = ENOMEM;
        received = out->data != NULL && receive_all(fd, out->data, out->size);
    }
    if (!received) {
        int error = errno;
        free(out->data);
        if (out->attached >= 0) {
            close(out->attached);
        }
        errno = error;
    }
    return received;
}

static int parse_fd_and_size(PyObject *const *arguments, int *fd, PyObject *max, uint32_t *max_bytes) {
    *fd = PyLong_AsInt(arguments[0]);
    unsigned long most = max != NULL ? PyLong_AsUnsignedLong(max) : 0;
    *max_bytes = most > UINT32_MAX ? UINT32_MAX : (uint32_t)most;
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *vm_send_frame(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count) {
    int fd;
    uint32_t unused;
    Py_buffer payload;
    if (count != 2 && count != 3) {
        return PyErr_Format(PyExc_TypeError, "send_frame takes fd, payload and attached, not %zd arguments",
                            count);
    }
    int attached = count == 3 ? PyLong_AsInt(arguments[2]) : -1;
    if (PyErr_Occurred() || parse_fd_and_size(arguments, &fd, NULL, &unused) < 0 ||
        PyObject_GetBuffer(arguments[1], &payload, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    bool fits = payload.len <= (Py_ssize_t)UINT32_MAX;
    bool sent = false;
    if (fits) {
        Py_BEGIN_ALLOW_THREADS sent = frame_send(fd, payload.buf, (uint32_t)payload.len, attached);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&payload);
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "a frame holds less than 4 GiB");
        return NULL;
    }
    return sent ? Py_NewRef(Py_None) : PyErr_SetFromErrno(PyExc_OSError);
}

/* (bytes, descriptor or -1), or None at the peer's end. */
static PyObject *received_frame(bool received, frame *got) {
    if (!received) {
        return errno != 0 ? PyErr_SetFromErrno(PyExc_OSError) : Py_NewRef(Py_None);
    }
    PyObject *result = Py_BuildValue("(y#i)", got->data, (Py_ssize_t)got->size, got->attached);
    free(got->data);
    if (result == NULL && got->attached >= 0) {
        close(got->attached);
    }
    return result;
}

static PyObject *vm_receive_frame(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count) {
    int fd;
    uint32_t max_bytes;
    frame got;
    bool received;
    if (count != 2) {
        return PyErr_Format(PyExc_TypeError, "receive_frame takes fd and max_bytes, not %zd arguments",
                            count);
    }
    if (parse_fd_and_size(arguments, &fd, arguments[1], &max_bytes) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS received = frame_receive(fd, max_bytes, &got);
    Py_END_ALLOW_THREADS return received_frame(received, &got);
}

static PyObject *vm_exchange(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count) {
    int fd;
    uint32_t max_bytes;
    frame got;
    char *question;
    Py_ssize_t question_bytes;
    bool received;
    if (count != 4) {
        return PyErr_Format(PyExc_TypeError,
                            "exchange takes fd, payload, attached and max_bytes, not %zd arguments", count);
    }
    int attached = PyLong_AsInt(arguments[2]);
    if (PyErr_Occurred() || parse_fd_and_size(arguments, &fd, arguments[3], &max_bytes) < 0 ||
        PyBytes_AsStringAndSize(arguments[1], &question, &question_bytes) < 0) {
        return NULL;
    }
    if (question_bytes > (Py_ssize_t)max_bytes) {
        return PyErr_Format(PyExc_ValueError, "the question has %zd bytes; the limit is %u", question_bytes,
                            max_bytes);
    }
    Py_BEGIN_ALLOW_THREADS received =
        frame_send(fd, question, (uint32_t)question_bytes, attached) && frame_receive(fd, max_bytes, &got);
    Py_END_ALLOW_THREADS return received_frame(received, &got);
}

/* ---- shared memory: blocks that go from process to process beside a frame
 * ------------------------------------------------------------------------ */

enum {
    SHARED_ALIGNMENT = 64, /* bytes, as the engine's blocks */
    SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE,
};

static Py_ssize_t aligned(Py_ssize_t size) {
    return (size + SHARED_ALIGNMENT - 1) / SHARED_ALIGNMENT * SHARED_ALIGNMENT;
}

/* Copy the buffers into the fresh file `fd` one after the other, and seal it. */
static int fill_and_seal(int fd, Py_buffer *buffers, Py_ssize_t count, Py_ssize_t total) {
    if (ftruncate(fd, (off_t)total) != 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    char *memory = mmap(NULL, (size_t)total, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    int result = 0;
    Py_ssize_t at = 0;
    for (Py_ssize_t i = 0; result == 0 && i < count; ++i) {
        if (buffers[i].len > 0) {
            result = PyBuffer_ToContiguous(memory + at, &buffers[i], buffers[i].len, 'C');
        }
        at += aligned(buffers[i].len);
    }
    munmap(memory, (size_t)total); /* the seal against writing wants no writable mapping left */
    if (result == 0 && fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) != 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        result = -1;
    }
    return result;
}

static PyObject *share_buffers(Py_buffer *buffers, Py_ssize_t count) {
    Py_ssize_t total = 0;
    for (Py_ssize_t i = 0; i < count; ++i) {
        if (buffers[i].len > PY_SSIZE_T_MAX / 2 - total) {
            return PyErr_NoMemory();
        }
        total += aligned(buffers[i].len);
    }
    total = total > 0 ? total : SHARED_ALIGNMENT; /* nothing cannot be mapped */
    if (!account_allows((size_t)total)) {
        return PyErr_NoMemory();
    }
    int fd = memfd_create("walle", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    PyObject *result = fill_and_seal(fd, buffers, count, total) == 0 ? PyLong_FromLong(fd) : NULL;
    if (result == NULL) {
        close(fd);
    }
    return result;
}

static PyObject *vm_share(PyObject *Py_UNUSED(module), PyObject *argument) {
    PyObject *items = PySequence_Tuple(argument);
    if (items == NULL) {
        return NULL;
    }
    Py_ssize_t count = PyTuple_GET_SIZE(items), held = 0;
    Py_buffer *buffers = PyMem_Calloc((size_t)count + 1, sizeof *buffers);
    PyObject *result = NULL;
    if (buffers == NULL) {
        PyErr_NoMemory();
    } else {
        while (held < count &&
               PyObject_GetBuffer(PyTuple_GET_ITEM(items, held), &buffers[held], PyBUF_FULL_RO) == 0) {
            ++held;
        }
        result = held == count ? share_buffers(buffers, count) : NULL;
        while (held > 0) {
            PyBuffer_Release(&buffers[--held]);
        }
    }
    PyMem_Free(buffers);
    Py_DECREF(items);
    return result;
}

typedef struct {
    PyObject ob_base;
    void *memory;
    size_t size;
} Shared;

static void shared_dealloc(PyObject *op) {
    PyTypeObject *type = Py_TYPE(op);
    munmap(((Shared *)op)->memory, ((Shared *)op)->size);
    type->tp_free(op);
    Py_DECREF(type);
}

static int shared_getbuffer(PyObject *op, Py_buffer *buffer, int flags) {
    Shared *self = (Shared *)op;
    return PyBuffer_FillInfo(buffer, op, self->memory, (Py_ssize_t)self->size, 1, flags);
}

static PyType_Slot shared_slots[] = {
    {Py_tp_doc, "Memory that another process has shared and sealed; a read-only buffer of bytes."},
    {Py_tp_dealloc, shared_dealloc},
    {Py_bf_getbuffer, shared_getbuffer},
    {0, NULL},
};
static PyType_Spec shared_spec = {
    .name = "walle_container._vm.Shared",
    .basicsize = sizeof(Shared),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = shared_slots,
};

/* Takes over the descriptor in any case. */
static PyObject *vm_map_shared(PyObject *module, PyObject *argument) {
    int fd = PyLong_AsInt(argument);
    if (fd == -1 && PyErr_Occurred()) {
        return NULL;
    }
    struct stat status;
    int seals = fcntl(fd, F_GET_SEALS);
    bool sealed = seals >= 0 && (seals & SEALS) == SEALS;
    void *memory = MAP_FAILED;
    if (sealed && fstat(fd, &status) == 0 && status.st_size > 0) {
        memory = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
    }
    int error = errno;
    close(fd);
    if (!sealed) {
        PyErr_SetString(PyExc_ValueError, "this is no memory whose size and content are sealed");
        return NULL;
    }
    if (memory == MAP_FAILED) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    PyTypeObject *type = ((module_state *)PyModule_GetState(module))->shared_type;
    Shared *self = (Shared *)type->tp_alloc(type, 0);
    if (self == NULL) {
        munmap(memory, (size_t)status.st_size);
        return NULL;
    }
    self->memory = memory;
    self->size = (size_t)status.st_size;
    return (PyObject *)self;
}

/* ---- module
 * ------------------------------------------------------------------------------------------------- */

static int vm_exec(PyObject *module) {
    module_state *state = PyModule_GetState(module);
    state->interrupted_type = PyErr_NewExceptionWithDoc(
        "walle_container._vm.TaskInterrupted", "Raised inside a task to stop it; a BaseException on purpose.",
        PyExc_BaseException, NULL);
    state->shared_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &shared_spec, NULL);
    if (state->shared_type == NULL || PyModule_AddType(module, state->shared_type) < 0) {
        return -1;
    }
    return PyModule_AddObjectRef(module, "TaskInterrupted", state->interrupted_type);
}

static int vm_traverse(PyObject *module, visitproc visit, void *arg) {
    module_state *state = PyModule_GetState(module);
    Py_VISIT(state->interrupted_type);
    Py_VISIT(state->shared_type);
    return 0;
}

static int vm_clear(PyObject *module) {
    module_state *state = PyModule_GetState(module);
    if (state->slot != NULL) {
        atomic_store(&state->slot->run, 0);
        atomic_store(&state->slot->taken, false);
        state->slot = NULL;
    }
    Py_CLEAR(state->interrupted_type);
    Py_CLEAR(state->shared_type);
    return 0;
}

static void vm_free(void *module) {
    vm_clear(module);
}

/* ---- the scheduler
 * ------------------------------------------------------------------------------------------- */

/* The kernel's struct sched_attr, first version; newer C libraries have it under its own name. */
typedef struct {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
} scheduling;

enum { SCHEDULING_OTHER = 0 };

static PyObject *vm_take_long_turns(PyObject *Py_UNUSED(module), PyObject *turn_ns) {
    scheduling own = {.size = sizeof own};
    unsigned long long asked_ns = PyLong_AsUnsignedLongLong(turn_ns);
    if (PyErr_Occurred()) {
        return NULL;
    }
    bool taken = syscall(SYS_sched_getattr, 0, &own, sizeof own, 0) == 0 && own.policy == SCHEDULING_OTHER;
    own.runtime_ns = asked_ns;
    taken = taken && syscall(SYS_sched_setattr, 0, &own, 0) == 0;
    return PyBool_FromLong(taken);
}

static PyMethodDef vm_methods[] = {
    {"install_quota", vm_install_quota, METH_NOARGS, PyDoc_STR("install_quota() -> None")},
    {"memory_account", vm_memory_account, METH_NOARGS, PyDoc_STR("memory_account() -> capsule")},
    {"install_policy", vm_install_policy, METH_NOARGS, PyDoc_STR("install_policy() -> None")},
    {"begin", vm_begin, METH_O, PyDoc_STR("begin(run) -> None")},
    {"end", vm_end, METH_NOARGS, PyDoc_STR("end() -> None")},
    {"guard", (PyCFunction)(void (*)(void))vm_guard, METH_FASTCALL,
     PyDoc_STR("guard(memory_bytes, call) -> (value, error, cpu_ns, peak_bytes, interrupts)")},
    {"interrupt", (PyCFunction)(void (*)(void))vm_interrupt, METH_FASTCALL,
     PyDoc_STR("interrupt(interpreter_id, run) -> bool")},
    {"send_frame", (PyCFunction)(void (*)(void))vm_send_frame, METH_FASTCALL,
     PyDoc_STR("send_frame(fd, payload, attached=-1) -> None")},
    {"receive_frame", (PyCFunction)(void (*)(void))vm_receive_frame, METH_FASTCALL,
     PyDoc_STR("receive_frame(fd, max_bytes) -> (bytes, attached) | None")},
    {"exchange", (PyCFunction)(void (*)(void))vm_exchange, METH_FASTCALL,
     PyDoc_STR("exchange(fd, payload, attached, max_bytes) -> (bytes, attached) | None")},
    {"share", vm_share, METH_O, PyDoc_STR("share(buffers) -> fd")},
    {"map_shared", vm_map_shared, METH_O, PyDoc_STR("map_shared(fd) -> Shared")},
    {"take_long_turns", vm_take_long_turns, METH_O, PyDoc_STR("take_long_turns(turn_ns) -> bool")},
    {"thread_cpu_ns", vm_thread_cpu_ns, METH_NOARGS, PyDoc_STR("thread_cpu_ns() -> int")},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot vm_slots[] = {
    {Py_mod_exec, vm_exec},
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
    {0, NULL},
};

static struct PyModuleDef vm_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "walle_container._vm",
    .m_doc = PyDoc_STR("Interrupt, memory quota, audit policy and CPU clock of task runs."),
    .m_size = sizeof(module_state),
    .m_methods = vm_methods,
    .m_slots = vm_slots,
    .m_traverse = vm_traverse,
    .m_clear = vm_clear,
    .m_free = vm_free,
};

PyMODINIT_FUNC PyInit__vm(void) {
    return PyModuleDef_Init(&vm_module);
}
