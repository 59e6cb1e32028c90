/* Values at run time, as the engine handles them; see engine.h for what they are. A tensor either owns its
 * memory (through a block) or borrows it for the length of a run. References are atomic, contents immutable
 * once shared. */
#ifndef WE_GRAPH_DATUM_H
#define WE_GRAPH_DATUM_H

#include <stdatomic.h>
#include <stdbool.h>

#include <walle/engine.h>

/* Bytes of tensors alive in one run; used by one thread. */
typedef struct we_budget {
    int64_t used, limit;
} we_budget;

struct we_datum {
    _Atomic int64_t references;
    we_datum_kind kind;
    we_view view;    /* tensors */
    we_block *block; /* owner of view.data; NULL where borrowed */
    we_datum **items;
    size_t count;
    we_budget *budget; /* charged with `charged` bytes until this goes or leaves the run */
    int64_t charged;
};

/* A zeroed tensor. OUT_OF_MEMORY past the budget (NULL: none), naming `what`. */
we_status we_datum_make(we_budget *budget, const char *what, we_dtype dtype, int32_t rank,
                        const int64_t *dims, we_datum **out, we_error *err);
/* Takes over the block, also on failure. */
we_status we_datum_adopt(we_budget *budget, const char *what, we_block *block, we_datum **out, we_error *err);
/* A tensor in memory that outlives the run or belongs to its caller. */
we_status we_datum_borrow(const we_view *view, we_datum **out, we_error *err);
/* A reference that may leave the run: borrowed memory and texts of the run are copied, nothing is charged. */
we_status we_datum_leave(we_datum *datum, we_datum **out, we_error *err);

int64_t we_view_elements(const we_view *view); /* of a legal shape */
size_t we_view_bytes(const we_view *view);
/* Element i as a number; 0 of a STRING. */
double we_view_number(const we_view *view, int64_t i);
int64_t we_view_integer(const we_view *view, int64_t i);

#endif
