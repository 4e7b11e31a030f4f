"""What every room uses: errors, files, threads, configuration."""
