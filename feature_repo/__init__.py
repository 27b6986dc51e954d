"""The Feast repository: definitions and stores, thin over ninefold."""
