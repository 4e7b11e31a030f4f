"""A served model, over REST or gRPC."""
