"""Online work, one folder per service."""
