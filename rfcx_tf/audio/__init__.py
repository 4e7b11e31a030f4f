"""Sound files: found, decoded, dated."""
