"""Classification of images, the paper's first task."""
