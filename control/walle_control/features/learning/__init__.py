"""Learning together: plans that train a task's model in rounds, on devices whose samples stay there."""
