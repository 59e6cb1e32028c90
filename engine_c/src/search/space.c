#include "search/search.h"

#include <string.h>

static const char *const SEARCHES[WE_SEARCH_COUNT] = {"model", "measure", "exhaustive", "reference"};

const char *we_search_name(we_search search) {
    return SEARCHES[search];
}

we_search we_search_find(const char *name) {
    int found = 0;
    while (found < WE_SEARCH_COUNT && strcmp(SEARCHES[found], name) != 0)
        found++;
    return (we_search)found;
}

static const char *const PRECISIONS[WE_PRECISION_COUNT] = {"highest", "high", "medium"};

const char *we_precision_name(we_precision precision) {
    return PRECISIONS[precision];
}

we_precision we_precision_find(const char *name) {
    int found = 0;
    while (found < WE_PRECISION_COUNT && strcmp(PRECISIONS[found], name) != 0)
        found++;
    return (we_precision)found;
}

static const char *plain_name(const we_program *program, const we_command *command) {
    switch (command->kind) {
    case WE_COMMAND_UNARY:
        return "unary";
    case WE_COMMAND_BINARY:
        return "binary";
    case WE_COMMAND_SELECT:
        return "select";
    case WE_COMMAND_CAST:
        return "cast";
    case WE_COMMAND_REDUCE:
        return "reduce";
    case WE_COMMAND_ARG:
        return "arg";
    case WE_COMMAND_TOP:
        return "top";
    case WE_COMMAND_RANDOM:
        return "random";
    case WE_COMMAND_MATMUL:
        return "reference";
    case WE_COMMAND_LOOP:
        return we_loop_is_simple(program, &command->u.loop) ? "simple loop" : "loop";
    case WE_COMMAND_RASTER:
        return "raster";
    case WE_COMMAND_CLAIM:
        return we_claim_row(command->u.claim.claim)->name;
    case WE_COMMAND_NATIVE:
        return command->u.native.native->name;
    case WE_COMMAND_CHAIN:
        return "chain";
    }
    return "?";
}

/* What a kernel's products are good for: of float32, one, two or three parts of bfloat16. */
static bool is_precise_enough(const we_matmul_row *row, we_precision wanted) {
    static const we_precision BY_PARTS[WE_PARTS + 1] = {WE_PRECISION_HIGHEST, WE_PRECISION_MEDIUM,
                                                        WE_PRECISION_HIGH, WE_PRECISION_HIGHEST};
    return BY_PARTS[row->parts] <= wanted;
}

size_t we_space_candidates(const we_machine *machine, const we_program *program, const we_command *command,
                           bool plain_only, we_candidate *out) {
    size_t count = 0;
    const we_claim_methods *claim = we_claim_of(command);
    bool claimed = claim && claim->product;
    if (!claimed)
        out[count++] = (we_candidate){.name = plain_name(program, command)};
    if (command->kind == WE_COMMAND_LOOP && !plain_only && we_loop_has_pieces(program, &command->u.loop))
        out[count++] = (we_candidate){.name = "loop in pieces", .pieces = true};
    bool product = command->kind == WE_COMMAND_MATMUL && program->tensors[command->out].dtype == WE_F32 &&
                   command->u.matmul.k > 0 && program->tensors[command->out].count > 0;
    if (!claimed && (!product || plain_only))
        return count;
    const we_matmul_row *rows;
    size_t row_count = we_matmul_rows(&rows);
    for (size_t i = 0; i < row_count && count < WE_MAX_CANDIDATES; i++) {
        if ((machine->isas >> rows[i].isa & 1) && is_precise_enough(&rows[i], machine->precision) &&
            (!rows[i].parts || !claim || claim->splits))
            out[count++] = (we_candidate){.name = rows[i].name, .kernel = &rows[i]};
    }
    return count;
}
