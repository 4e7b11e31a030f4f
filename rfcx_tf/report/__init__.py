"""A run or a set of predictions -> one HTML page that needs nothing else, not even a network."""
