"""Checkpoints: written by Orbax, verified, and complete with what explains them."""
