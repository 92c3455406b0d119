"""GoogLeNet and the Inception family in JAX: training, evaluation and the paper's protocol."""

__version__ = "0.1.0"
