"""Weights in from other frameworks, and networks out to other runtimes."""
