#!/usr/bin/env python3
"""Runs inception_jax.launching.local of this checkout, installed or not: --help says the rest."""

import os
import runpy
import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parent.parent)
sys.path[0] = ROOT
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH"))))
runpy.run_module("inception_jax.launching.local", run_name="__main__")
