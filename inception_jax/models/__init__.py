"""The networks as Flax NNX modules, and what they cost."""
