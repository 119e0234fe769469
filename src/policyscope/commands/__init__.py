"""One module a command: the order in which the other rooms are asked.

Short on purpose: what can be named belongs into a room above. `session` is the life of a run,
`cli` turns flags into calls.
"""
