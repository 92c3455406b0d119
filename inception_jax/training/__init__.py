"""Training: state, step, optimiser, schedule, and the loop that drives them."""
