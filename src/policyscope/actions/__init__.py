"""What an action is: its space, its dims, their units; and the robots that we know.

Native and normalized actions are two types, and `spaces.Normalizer` is the door between them.
Where actions come from belongs elsewhere: demonstrations to `policyscope.data`, predictions to
`policyscope.policies`; how far apart they are, to `policyscope.metrics`.
"""
