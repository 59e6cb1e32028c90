/* Batches of matrices: shared among threads where there are many, else by the algorithms inside. */
#include "array/linalg/linalg.h"

#include <pthread.h>

#include "array/loops.h"
#include "base/error.h"

enum {
    WORTH_THREADS = 1 << 18, /* multiplications below which no helper is asked */
};

static const we_linalg_item *const ITEMS[] = {
    [WE_FIELD_F32] = we_linalg_items_f32,
    [WE_FIELD_F64] = we_linalg_items_f64,
    [WE_FIELD_C64] = we_linalg_items_c64,
    [WE_FIELD_C128] = we_linalg_items_c128,
};

typedef struct batch_job {
    const we_linalg_call *call;
    we_linalg_item item;
    pthread_mutex_t lock;
    we_status status; /* the first failure, in the order of the batch */
    int64_t failed;
    we_error error;
} batch_job;

static void run_items(void *context, int64_t begin, int64_t end) {
    batch_job *job = context;
    for (int64_t i = begin; i < end; i++) {
        we_error error;
        we_status status = job->item(job->call, i, &error);
        if (status == WE_OK)
            continue;
        pthread_mutex_lock(&job->lock);
        if (job->status == WE_OK || i < job->failed)
            job->status = status, job->failed = i, job->error = error;
        pthread_mutex_unlock(&job->lock);
        return;
    }
}

we_status we_linalg(we_linalg_op op, we_field field, int64_t batch, int64_t m, int64_t n, int64_t k,
                    int option, const void *const in[2], void *const out[3], we_error *err) {
    we_linalg_call call = {.op = op, .batch = batch, .m = m, .n = n, .k = k, .option = option != 0};
    we_error_clear(err);
    WE_TRY(we_kernels_get(&call.kernels, err));
    for (int i = 0; i < 3; i++)
        call.out[i] = out[i];
    call.in[0] = in[0], call.in[1] = in[1];
    batch_job job = {
        .call = &call, .item = ITEMS[field][op], .lock = PTHREAD_MUTEX_INITIALIZER, .status = WE_OK};
    int64_t work = (m + 1) * (n + 1) * ((m < n ? m : n) + k + 1); /* multiplications, about */
    if (batch * work > WORTH_THREADS)
        call.pool = we_array_pool();
    we_parallel_for(batch > 1 ? call.pool : NULL, batch, (1 << 13) / work + 1, run_items, &job);
    if (job.status != WE_OK && err)
        *err = job.error;
    return job.status;
}
