"""Evaluation: every example exactly once, whatever the batch, device and process count."""
