"""Where features go besides the database: one small interface, and what carries the journal to it."""
