"""Configs: fields and their rules, loading, completing, and reading those of older versions."""
