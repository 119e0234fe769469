"""A dataset on trial: its demonstrations looked at before anybody trains or evaluates on them.

Each module looks at one side of it, and each `looks.Look` says what was looked at, what was seen,
and what is wrong with it.
"""
