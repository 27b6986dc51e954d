"""What applications talk to."""
