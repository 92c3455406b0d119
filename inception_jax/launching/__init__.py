"""Commands in several processes, and sweeps of many runs, on one machine."""
