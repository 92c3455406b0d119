"""Measurements of speed: what `python -m inception_jax.benchmark NAME` runs."""
