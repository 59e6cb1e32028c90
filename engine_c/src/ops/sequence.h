/* Readings of the operators of sequence models - attention, recurrence, Einsum, losses - that their shape
 * functions and rules share. Each checks every shape and attribute it hands out. */
#ifndef WE_OPS_SEQUENCE_H
#define WE_OPS_SEQUENCE_H

#include "ops/ops.h"

/* Sizes of Attention. Inputs may be [batch, heads, length, size] or, packed, [batch, length, heads * size].
 */
typedef struct we_attention {
    bool packed;
    int64_t batch, heads, shared_heads; /* of queries; of keys and values */
    int64_t queries, keys;              /* lengths; keys without the past ones */
    int64_t past, size, value_size;
    int64_t left, right; /* window, -1: unbounded */
    bool causal;
    int64_t mode; /* of the fourth output */
} we_attention;
we_status we_call_attention(const we_call *call, we_attention *out);

/* Sizes of LinearAttention, all of whose sequences are packed. */
typedef struct we_linear_attention {
    int64_t batch, steps, heads, shared_heads, key_size, value_size;
    bool gated, corrected;
    int64_t decay_size; /* per head: 1 or key_size */
    int64_t beta_heads; /* 1 or shared_heads */
} we_linear_attention;
we_status we_call_linear_attention(const we_call *call, we_linear_attention *out);

/* Sizes of RotaryEmbedding over [batch, heads, length, size] or packed [batch, length, heads * size]. */
typedef struct we_rotary {
    bool packed;
    int64_t batch, heads, length, size;
    int64_t half; /* pairs that turn; the first 2 * half of `size` */
} we_rotary;
we_status we_call_rotary(const we_call *call, we_rotary *out);

/* Sizes of RNN, GRU and LSTM. */
typedef struct we_recurrence {
    int64_t gates, steps, batch, inputs, hidden, directions;
    bool batch_first, backward; /* backward: the only direction is the reverse one */
} we_recurrence;
we_status we_call_recurrence(const we_call *call, we_recurrence *out);

enum {
    WE_EINSUM_LABELS = 52 + WE_MAX_RANK, /* letters, then the dims of an ellipsis, the last one last */
    WE_EINSUM_OPERANDS = 16,
};

typedef struct we_einsum_term {
    int32_t rank;
    uint8_t labels[WE_MAX_RANK];
} we_einsum_term;

/* A parsed equation. A dim of 1 fits any size of its label. */
typedef struct we_einsum {
    int32_t operands;
    we_einsum_term in[WE_EINSUM_OPERANDS], out;
    int64_t size[WE_EINSUM_LABELS];
} we_einsum;
we_status we_call_einsum(const we_call *call, we_einsum *out);

typedef enum we_loss_kind {
    WE_LOSS_NONE,
    WE_LOSS_SUM,
    WE_LOSS_MEAN,
} we_loss_kind;
/* The shape function has checked the attribute. */
we_loss_kind we_loss_reduction(const we_node *node);

/* Tensors per group of the training operators: inputs are R, T, then `kinds` lists of equal length. */
we_status we_call_optimizer(const we_call *call, int32_t *kinds, int32_t *count);

#endif
