"""Window scores to events and their tables."""
