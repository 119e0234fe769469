"""Demonstrations: a LeRobot dataset as facts, episodes, pictures and batches.

The format of files, decoding, and reading ahead are known here and nowhere else. Whether a dataset
suits a policy is a question for `policyscope.checks`; what pictures are kept for the report, for
`policyscope.engine.footage`.
"""
