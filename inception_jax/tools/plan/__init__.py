"""Memory and work of a training step on a TPU slice, as the compiler estimates them."""
