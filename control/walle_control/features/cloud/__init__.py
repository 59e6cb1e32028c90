"""The cloud halves of tasks: who asks, what answers, and what it may cost."""
