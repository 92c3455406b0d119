"""Training: the loop, the step, its state, optimiser and schedule."""
