"""Policies: the contract, the built-in ones, and those that lerobot trained.

A checkpoint is read here before its weights are, and opened. Everything that touches lerobot's
policies. That its numbers would mean nothing is said in `policyscope.checks`; frames reach it, and
predictions leave it, by `policyscope.engine`.
"""
