"""From an epoch to running tasks: verify, decide, plan, install, switch, go back."""
