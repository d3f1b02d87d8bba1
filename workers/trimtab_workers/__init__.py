"""Data, training, evaluation and executors."""
