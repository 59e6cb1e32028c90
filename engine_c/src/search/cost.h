/* Parts of the cost model that calibration and the choice of layouts are made with. */
#ifndef WE_SEARCH_COST_H
#define WE_SEARCH_COST_H

#include "search/search.h"

/* Cycles of a product by that micro-kernel, by its formula: tiles and what starting each costs. Of one item
 * of the batch, operands near. */
double we_cost_cycles(const we_matmul *product, const we_matmul_row *kernel);

/* Nanoseconds to bring that many bytes from channels first to channels last, or back. */
double we_cost_turning(const we_machine *machine, double bytes);

#endif
