"""From prepared files to batches on the devices. One direction: source, order, decode, crop, batch."""
