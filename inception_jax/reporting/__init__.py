"""What a person reads while and after a command runs: the console, the log, metrics, tables."""
