"""Events in, clips for a person to judge, and her verdicts as rows for training."""
