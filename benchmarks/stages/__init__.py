"""One module for each stage of `speed.py`: `measure(options)` returns a `Report`."""
