"""What a closed-loop run looks like."""
