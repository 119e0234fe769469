"""What an offline run looks like."""
