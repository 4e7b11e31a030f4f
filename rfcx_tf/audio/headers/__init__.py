"""What the bytes of sound files show, beside what their headers say."""
