"""Policies: the contract, the built-in ones, and those that lerobot trained."""
