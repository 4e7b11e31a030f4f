"""A served model as a scorer, over REST or gRPC."""
