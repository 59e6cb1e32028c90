"""Git repositories that task versions come from: kept as mirrors, in step by asking or by being told."""
