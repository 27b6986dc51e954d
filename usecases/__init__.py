"""Problems, one folder each."""
