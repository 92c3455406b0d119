"""Configs: fields declared once, files and overrides, open fields, configs of older versions."""
