"""The networks as Flax NNX modules, and their costs."""
