"""The client of a served model: recordings -> requests over REST or gRPC -> tables."""
