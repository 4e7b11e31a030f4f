"""Sound and labels in, batches out."""
