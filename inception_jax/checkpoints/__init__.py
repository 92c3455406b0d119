"""Checkpoints: written by Orbax, sealed, verified, and complete with what explains them."""
