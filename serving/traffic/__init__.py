"""Where requests go: the route table that the store asks for, and what carries it on a cluster."""
