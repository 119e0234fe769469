"""What the predictions themselves give away: are they what this dataset calls actions?

`statistics.py` measures how far predictions are from a hypothesis, `hypotheses.py` says what each
known mistake would turn the demonstrated actions into, `decide.py` names the mistake that fits, and
`probe.py` asks a policy about a sample of frames. ``docs/detector.md`` in the repository holds what
was measured on real networks.
"""
