/* What of blocks is the engine's own affair. */
#ifndef WE_RUN_BLOCK_H
#define WE_RUN_BLOCK_H

/* Give back the memory that is kept for blocks to come. */
void we_block_drop_spares(void);

#endif
