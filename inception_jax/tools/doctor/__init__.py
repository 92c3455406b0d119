"""Checks of a machine, a job, a config and a run's folder before training."""
