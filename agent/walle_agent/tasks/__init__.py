"""Which task runs when, with which grants."""
