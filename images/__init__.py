"""Building the images with whatever container engine is there, and trying them for real. Needs Python alone."""
