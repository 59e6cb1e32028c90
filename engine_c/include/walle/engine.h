/* The Walle tensor engine: the one public header.
 *
 * Rules that hold everywhere:
 *  - Every fallible function returns a we_status and fills the caller's error slot (`err` may be NULL).
 *  - Handles are opaque and reference-counted; what a function hands out through an `out` pointer belongs to
 * the caller, who gives it back with the matching `_release` (or `_free`). Releasing NULL does nothing.
 *  - Strings are UTF-8 and NUL-terminated; strings handed out live as long as the handle they were asked of.
 *  - All functions may be called from any thread. A builder belongs to one thread at a time.
 *    Models and sessions may be used by several threads at once.
 *  - Sizes are in bytes, dims in elements, tensors dense and row-major unless said otherwise.
 */
#ifndef WALLE_ENGINE_H
#define WALLE_ENGINE_H

#ifndef WE_CDEF /* the binding generator parses this header without the system's */
#include <stddef.h>
#include <stdint.h>
#if defined(__GNUC__)
#define WE_API __attribute__((visibility("default")))
#else
#define WE_API
#endif
#ifdef __cplusplus
extern "C" {
#endif
#endif

enum {
    WE_MAX_RANK = 8,
    WE_ERROR_TEXT = 512, /* bytes of an error message, its NUL included */
    WE_ERROR_NAME = 128, /* bytes of an op or node name in an error slot, its NUL included */
};

typedef enum we_status {
#define WE_STATUS_ROW(code, meaning) WE_##code,
#include "status.inc"
#undef WE_STATUS_ROW
    WE_STATUS_COUNT
} we_status;

typedef enum we_dtype {
#define WE_DTYPE_ROW(name, size, kind, format) WE_##name,
#include "dtype.inc"
#undef WE_DTYPE_ROW
    WE_DTYPE_COUNT
} we_dtype;

/* The error slot: caller-owned, so that no state is shared between threads or interpreters. */
typedef struct we_error {
    we_status status;
    char message[512]; /* what happened and the cure, one sentence or two */
    char op[128];      /* operator concerned, or "" */
    char node[128];    /* node concerned, or "" */
} we_error;

/* A dense row-major tensor in memory that somebody else owns. */
typedef struct we_view {
    we_dtype dtype;
    int32_t rank;
    int64_t dims[8];
    void *data; /* at least dtype size x product of dims bytes; may be NULL when that is 0 */
} we_view;

typedef struct we_block we_block;     /* reference-counted tensor memory, 64-byte aligned */
typedef struct we_model we_model;     /* verified graph + weights, immutable */
typedef struct we_session we_session; /* a model prepared for running */
typedef struct we_builder we_builder; /* a graph under construction */

/* ---- Names and sizes
 * ------------------------------------------------------------------------------------------ */

WE_API const char *we_version(void);
WE_API const char *we_status_name(we_status status);       /* "INVALID_MODEL"; "?" for an unknown value */
WE_API const char *we_dtype_name(we_dtype dtype);          /* "F32"; "?" for an unknown value */
WE_API const char *we_dtype_format(we_dtype dtype);        /* buffer-protocol format, "f" */
WE_API size_t we_dtype_size(we_dtype dtype);               /* bytes per element; 0 for an unknown value */
WE_API int we_dtype_find(const char *name, we_dtype *out); /* 1 if found */

/* ---- Tensor blocks
 * -------------------------------------------------------------------------------------------- */

/* Make a zero-filled block with one reference. INVALID_ARGUMENT for illegal dims, OUT_OF_MEMORY. */
WE_API we_status we_block_new(we_dtype dtype, int32_t rank, const int64_t *dims, we_block **out,
                              we_error *err);
WE_API we_block *we_block_retain(we_block *block); /* returns its argument; atomic */
WE_API void we_block_release(we_block *block);     /* frees at zero; atomic */
WE_API we_view we_block_view(const we_block *block);
WE_API size_t we_block_nbytes(const we_block *block);
WE_API int64_t we_live_blocks(void); /* blocks alive in the process, for leak checks */

/* Put a reference into the process-wide handle table and name it. A handle is good for exactly one import. */
WE_API we_status we_block_export(we_block *block, uint64_t *handle, we_error *err);
/* Take the reference back out, e.g. in another interpreter. INVALID_ARGUMENT for a handle unknown or used
 * already. */
WE_API we_status we_block_import(uint64_t handle, we_block **out, we_error *err);

/* Who pays for the memory the engine takes: blocks, models, sessions and what they run on; mapped files are
 * free. Both are called on the thread that takes or gives back, and must not call the engine. */
typedef struct we_memory_account {
    int (*allows)(size_t bytes);   /* 0 refuses: the call that asked ends with OUT_OF_MEMORY */
    void (*charge)(int64_t bytes); /* taken, or given back where negative */
} we_memory_account;
/* Set it for the whole process, before the engine works; NULL: nobody pays. It must stay valid. */
WE_API void we_memory_set_account(const we_memory_account *account);

/* Copy texts into a block of dtype STRING: as many as it has elements, NULL reads as "". The block owns them.
 */
WE_API we_status we_block_set_texts(we_block *block, const char *const *texts, we_error *err);

/* ---- Values: what models with sequences and optionals take and give
 * ----------------------------------------------------------------------- */

typedef enum we_datum_kind {
    WE_DATUM_TENSOR,
    WE_DATUM_SEQUENCE, /* of values */
    WE_DATUM_NONE,     /* an optional without a value; one with a value is that value */
} we_datum_kind;

typedef struct we_datum we_datum; /* reference-counted, immutable */

/* A tensor; retains the block. */
WE_API we_status we_datum_new_tensor(we_block *block, we_datum **out, we_error *err);
/* A sequence; retains its items. */
WE_API we_status we_datum_new_sequence(we_datum *const *items, size_t count, we_datum **out, we_error *err);
/* A tensor in the caller's memory, which must stay as it is until the run it is passed to is over. */
WE_API we_status we_datum_new_view(const we_view *view, we_datum **out, we_error *err);
WE_API we_status we_datum_new_none(we_datum **out, we_error *err);
WE_API we_datum *we_datum_retain(we_datum *datum);
WE_API void we_datum_release(we_datum *datum);
WE_API we_datum_kind we_datum_kind_of(const we_datum *datum);
/* The block of a tensor, retained for the caller; NULL for anything else. */
WE_API we_block *we_datum_block(const we_datum *datum);
WE_API size_t we_datum_count(const we_datum *datum); /* items of a sequence; 0 for anything else */
/* An item, retained for the caller; NULL where there is none. */
WE_API we_datum *we_datum_item(const we_datum *datum, size_t index);

/* ---- Models
 * --------------------------------------------------------------------------------------------------- */

typedef enum we_io_kind {
    WE_IO_TENSOR,
    WE_IO_SEQUENCE, /* dtype is its items', where stated */
    WE_IO_OPTIONAL,
} we_io_kind;

typedef struct we_io_info {
    const char *name;
    we_io_kind kind;
    we_dtype dtype;         /* WE_DTYPE_COUNT where the graph does not state it */
    int32_t rank;           /* -1 where the graph does not state it */
    int64_t dims[8];        /* -1 where symbolic */
    const char *symbols[8]; /* the symbol's name where dims is -1, else NULL; "" for an unnamed unknown */
} we_io_info;

/* Map a .wmodel file and verify it. IO, INVALID_MODEL, UNSUPPORTED, OUT_OF_MEMORY. The file must not change
 * while the model lives. */
WE_API we_status we_model_load(const char *path, we_model **out, we_error *err);
/* The same for a file already in memory; the bytes are copied. */
WE_API we_status we_model_load_memory(const void *bytes, size_t size, we_model **out, we_error *err);
WE_API we_model *we_model_retain(we_model *model);
WE_API void we_model_release(we_model *model);
WE_API const char *we_model_name(const we_model *model);
WE_API size_t we_model_input_count(const we_model *model);
WE_API size_t we_model_output_count(const we_model *model);
WE_API size_t we_model_node_count(const we_model *model);
WE_API we_status we_model_input(const we_model *model, size_t index, we_io_info *out, we_error *err);
WE_API we_status we_model_output(const we_model *model, size_t index, we_io_info *out, we_error *err);

/* ---- Graph builder
 * -------------------------------------------------------------------------------------------- */

typedef enum we_attr_kind {
    WE_ATTR_INT,
    WE_ATTR_FLOAT,
    WE_ATTR_STRING,
    WE_ATTR_INTS,
    WE_ATTR_FLOATS,
    WE_ATTR_STRINGS,
    WE_ATTR_TENSOR, /* `string` names a weight of the graph */
    WE_ATTR_GRAPH,  /* `graph` */
} we_attr_kind;

typedef struct we_attr {
    const char *name;
    we_attr_kind kind;
    int64_t integer;
    double real;
    const char *string;
    const int64_t *integers; /* `count` of them for the list kinds */
    const double *reals;
    const char *const *strings;
    size_t count;
    we_builder
        *graph; /* a body; names it does not define are those of the graph round it. The call that takes
                   it spends it, and it still has to be freed. Its inputs and outputs need no type. */
} we_attr;

/* Everything passed to a builder is copied and treated as hostile. Op, input and attribute names are ONNX's.
 */
WE_API we_status we_builder_new(const char *graph_name, we_builder **out, we_error *err);
WE_API void we_builder_free(we_builder *builder);
/* A graph input; dims[i] == -1 makes the dim symbolic, named symbols[i] (`symbols` or its entries may be
 * NULL). */
WE_API we_status we_builder_input(we_builder *builder, const char *name, we_dtype dtype, int32_t rank,
                                  const int64_t *dims, const char *const *symbols, we_error *err);
/* An input that may be something else than a tensor, or a tensor of unknown rank. `dtype` is that of the
 * tensor or of the items, WE_DTYPE_COUNT where not stated. */
WE_API we_status we_builder_input_untyped(we_builder *builder, const char *name, we_io_kind kind,
                                          we_dtype dtype, we_error *err);
WE_API we_status we_builder_weight(we_builder *builder, const char *name, const we_view *value,
                                   we_error *err);
/* Nodes may come in any order; "" stands for an omitted optional input or output. */
WE_API we_status we_builder_node(we_builder *builder, const char *op, const char *node_name,
                                 const char *const *inputs, size_t input_count, const char *const *outputs,
                                 size_t output_count, const we_attr *attrs, size_t attr_count, we_error *err);
WE_API we_status we_builder_output(we_builder *builder, const char *name, we_error *err);
/* Verify and turn into a model; the builder is spent whether this succeeds or not, and still has to be freed.
 */
WE_API we_status we_builder_finish(we_builder *builder, we_model **out, we_error *err);

/* ---- Sessions
 * ------------------------------------------------------------------------------------------------- */

typedef enum we_session_flag {
    WE_SESSION_NO_MERGE = 1,       /* keep every raster as the decomposition wrote it */
    WE_SESSION_NO_CLAIMS = 2,      /* run every composite as its decomposition */
    WE_SESSION_NO_FUSE = 4,        /* no epilogues inside matrix products */
    WE_SESSION_NO_REUSE = 8,       /* every tensor gets memory of its own */
    WE_SESSION_NO_VERTICAL = 16,   /* do not read through rasters; identities still cost nothing */
    WE_SESSION_NO_HORIZONTAL = 32, /* do not share rasters that move the same */
    WE_SESSION_VERIFY = 64,        /* check merging element by element while preparing; slow, for debugging */
    WE_SESSION_UNCALIBRATED = 128, /* let the cost model go by its standard parameters */
    WE_SESSION_LOW_MEMORY = 256,   /* keep weights as narrow as they are stored, also where that is slower */
} we_session_flag;

/* Seconds from an arbitrary start; called from any thread that runs. */
typedef double (*we_clock)(void *context);

typedef struct we_session_options {
    int32_t threads;       /* 1..64; 0 means 1 */
    const char *precision; /* "highest", "high", "medium"; NULL means "high" */
    const char *backend; /* "cpu"; "opencl": all that a device can run there, the rest on the CPU; "auto": on
                            either, whichever makes the whole fastest. "opencl:1" is the second device. NULL:
                            what WALLE_ENGINE_BACKEND says, else "cpu" */
    const char *search; /* how to choose: "model" by the cost model, "measure" by timing what looks good where
                           most time goes, "exhaustive" by timing all that the model thinks less than
                           20 times slower than the best, "reference": plain kernels alone; NULL means
                           "model" */
    uint32_t flags;     /* of we_session_flag; WALLE_ENGINE_DISABLE adds to them */
    int64_t memory_limit; /* bytes of tensors one run may hold; 0 means 8 GiB. Past it: OUT_OF_MEMORY */
    int64_t max_trips;    /* of all loops of one run together; 0 means 2^24. Past it: OUT_OF_MEMORY */
    double search_s;      /* to spend on timing per program; 0 means 2 for "measure", 600 for "exhaustive" */
    we_clock clock_s;     /* to time with; NULL: the monotonic clock */
    void *clock_context;
} we_session_options;

typedef struct we_binding {
    const char *name;
    we_view view;
} we_binding;

/* `options` may be NULL. The session holds a reference to the model. CONFIG for an unknown setting. */
WE_API we_status we_session_new(we_model *model, const we_session_options *options, we_session **out,
                                we_error *err);
WE_API we_session *we_session_retain(we_session *session);
WE_API void we_session_release(we_session *session);
/* Prepare for these input shapes (data pointers are not read) so that the next run does not have to. */
WE_API we_status we_session_prepare(we_session *session, const we_binding *inputs, size_t input_count,
                                    we_error *err);
/* Run once. Every graph input must be bound exactly once with its dtype and a fitting shape. `outputs` has
 * room for we_model_output_count entries and receives one new block each, in the model's order; on failure
 * all are NULL. The input memory is only read, and only during the call. Safe to call concurrently on one
 * session. */
WE_API we_status we_session_run(we_session *session, const we_binding *inputs, size_t input_count,
                                we_block **outputs, we_error *err);
/* The same on values: one per graph input, in the model's order; `outputs` receives one new value each.
 * Sequences and optionals need this call; a tensor's dtype STRING works in either. */
WE_API we_status we_session_run_values(we_session *session, we_datum *const *inputs, size_t input_count,
                                       we_datum **outputs, we_error *err);
/* Does the model need module mode (control flow, sequences, text, ...)? Only then can an output be no tensor.
 */
WE_API int we_session_is_module(const we_session *session);
/* End the runs of this session that loop or pass from one part of a model to the next: they fail with
 * INVALID_ARGUMENT. Later runs are not affected. */
WE_API void we_session_interrupt(we_session *session);
/* The most recently prepared program as JSON: steps with node, op, candidate, predicted ms; memory plan
 * totals. Free with we_string_free. INVALID_ARGUMENT where nothing was prepared yet. */
WE_API we_status we_session_explain(we_session *session, char **out, we_error *err);
WE_API void we_string_free(char *text);

/* ---- Profiles: what each step of a session's runs took
 * ------------------------------------------------------------------------------------------------- */

typedef struct we_profile_event {
    const char *node, *op, *command, *candidate; /* a step of the program and how it was run */
    int64_t thread;                              /* the thread that ran it; its helpers are not told apart */
    double start_s, end_s;
} we_profile_event;

/* Record every step of the runs that begin from now on, forgetting what was recorded before. `clock_s` may be
 * NULL: the monotonic clock. Recording costs two readings of the clock a step. */
WE_API we_status we_session_profile_start(we_session *session, we_clock clock_s, void *context,
                                          we_error *err);
WE_API void we_session_profile_stop(we_session *session);
/* How many events there are, and how many more found no room. */
WE_API size_t we_session_profile_count(we_session *session, int64_t *dropped);
WE_API we_status we_session_profile_event(we_session *session, size_t index, we_profile_event *out,
                                          we_error *err);

/* ---- What this build and this CPU offer
 * ----------------------------------------------------------------------- */

typedef struct we_op_info {
    const char *name;
    const char *op_class; /* "ATOMIC", "RASTER", "TRANSFORM", "COMPOSITE", "CONTROL", "HOST" */
    int32_t min_inputs, max_inputs, min_outputs, max_outputs;
    const char *rule;       /* decomposition rule, "" where none */
    const char *tolerance;  /* "exact", "ulp", "bound" */
    double tolerance_value; /* ulp: units in the last place of float32; bound: relative error factor per root
                               of k */
    const char *claims;     /* back ends that claim it, comma-separated, or "" */
} we_op_info;

typedef struct we_kernel_info {
    const char *family, *isa, *name;
    we_dtype dtype;
    int32_t tile_m, tile_n;
    int32_t packed;    /* needs packed operands */
    int32_t exact;     /* bit-exact with the reference */
    int32_t available; /* this CPU can run it under the present cap */
    int32_t chosen;    /* the dispatch table holds it */
} we_kernel_info;

/* ---- What the cost model believes of this machine
 * ------------------------------------------------------------------------------------------------- */

enum {
    WE_PARAMETER_NAME = 64, /* bytes of a name, its NUL included */
};

typedef struct we_parameter {
    char name[64];
    const char *meaning; /* with its unit */
    double value, standard;
} we_parameter;

WE_API size_t we_parameter_count(void);
/* One by number, as the sessions made from now on will believe it. */
WE_API we_status we_parameter_get(size_t index, we_parameter *out, we_error *err);
/* Believe another value: for the whole process, in sessions made from now on. INVALID_ARGUMENT for an unknown
 * name, and for values outside 1e-6 to 1e12. */
WE_API we_status we_parameter_set(const char *name, double value, we_error *err);
/* Whether there is one of that name to set. Those of a device, "device.IDENTITY.NAME", may be set whether it
 * is here or not, and are listed from then on: what is known of it waits for its return. */
WE_API int32_t we_parameter_exists(const char *name);
WE_API void we_parameters_reset(void); /* to the standard values; devices are forgotten */
/* Measure them here, on one core but for what sharing costs, in about a second; sessions made from now on go
 * by that. `clock_s` may be NULL: the monotonic clock. */
WE_API we_status we_calibrate(we_clock clock_s, void *context, we_error *err);

/* ---- Devices that sessions may run on beside the CPU: those of OpenCL, if its library is there ---- */

typedef struct we_device_info {
    const char *name, *platform, *driver; /* of the process */
    const char *kind;                     /* "gpu", "accelerator" or "cpu" */
    int32_t units;                        /* compute units */
    int64_t memory_bytes;
    int32_t f64, f16;  /* arithmetic on these? */
    uint64_t identity; /* of platform, name and driver: as parameters have it, in 16 digits of base 16 */
} we_device_info;

WE_API size_t we_device_count(void);
/* By number, GPUs first. CONFIG where there is no such device. */
WE_API we_status we_device_get(size_t index, we_device_info *out, we_error *err);
/* Keep the programs that are built for devices in files of this folder, which exists; NULL: do not. */
WE_API void we_devices_keep_programs(const char *folder);

/* What sessions with search "measure" found of nodes, as bytes and a text that mean something to an engine of
 * the same version alone; whoever keeps them in a file spares the next process the measuring. Any thread. */
typedef void (*we_measured_visit)(void *context, const void *key, size_t size, const char *text);
/* How many nodes were measured since the process began. */
WE_API uint64_t we_measured_count(void);
/* All that is known, the oldest first. `visit` must not call the engine. */
WE_API void we_measured_each(we_measured_visit visit, void *context);
/* Know this too. What is in the text matters once a node of that key is prepared; lines that say nothing of
 * it are passed over. INVALID_ARGUMENT where key or text are empty or too long. */
WE_API we_status we_measured_add(const void *key, size_t size, const char *text, we_error *err);
WE_API void we_measured_forget(void);

WE_API size_t we_op_count(void);
WE_API we_status we_op_get(size_t index, we_op_info *out, we_error *err);
WE_API size_t we_kernel_count(void);
WE_API we_status we_kernel_get(size_t index, we_kernel_info *out, we_error *err);
WE_API size_t we_isa_count(void);
WE_API const char *we_isa_name(size_t index); /* legal values of WALLE_ENGINE_ISA; NULL past the end */
/* The best instruction set in use: the CPU's, capped by WALLE_ENGINE_ISA. CONFIG where that has an unknown
 * value. */
WE_API we_status we_isa_current(const char **out, we_error *err);

#ifndef WE_CDEF
#ifdef __cplusplus
}
#endif
#endif
#endif
