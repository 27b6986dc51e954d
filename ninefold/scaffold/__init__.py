"""``ninefold new``: from a table and five answers to a use case's folder that runs at once."""
