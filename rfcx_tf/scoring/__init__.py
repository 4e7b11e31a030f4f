"""Sound to window scores."""
