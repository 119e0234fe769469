"""What offline numbers foretell, for people and for scripts."""
