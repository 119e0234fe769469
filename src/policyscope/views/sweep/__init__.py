"""What people look at after, or during, a sweep over checkpoints."""
