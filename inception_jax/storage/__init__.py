"""Files on disk: a run's folder, JSON, locks, and errors of a full disk."""
