"""What a trained network has learned, as pictures."""
