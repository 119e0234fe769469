"""Demonstrations: a LeRobot dataset as facts, episodes, pictures and batches."""
