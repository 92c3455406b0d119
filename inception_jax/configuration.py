"""The former name of `config.load`, for config files that people have written."""

from inception_jax.config.load import parse_ablation, parse_arguments

__all__ = ["parse_ablation", "parse_arguments"]
