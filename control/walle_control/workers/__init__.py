"""Several workers on one database: who leads, what the others changed, and their processes."""
