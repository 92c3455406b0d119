"""The machine a program runs on: devices, processes, signals, console."""
