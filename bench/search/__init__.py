"""The model builder against other searches: same rows, metric and seconds. ``make bench-search``, never in CI."""
