"""What is shown of closed-loop runs that differ in the steps of each chunk."""
