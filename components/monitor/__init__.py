"""The performance monitor: how production does, how it develops, and what is wrong."""
