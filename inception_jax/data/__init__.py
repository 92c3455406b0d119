"""From prepared files to batches on the devices: source, order, decode, crop, batch."""
