"""Simulators: worker processes, what we know of each simulator, and the contract they keep.

Everything that touches lerobot's environments. Which episodes run, who waits for whom, and what the
policy is asked, is decided in `policyscope.engine`; what came of it is counted in
`policyscope.metrics`.
"""
