"""A use case whose module fails, as a team's may."""

raise RuntimeError("the shop is closed")
