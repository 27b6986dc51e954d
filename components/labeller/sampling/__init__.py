"""What to have labelled next: pure functions of what production predicted, in numpy alone."""
