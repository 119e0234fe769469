"""A run directory: what it holds, how it is written, resumed and read again.

Files are written whole or not at all. The numbers in them are made in `policyscope.metrics`, the
loops that fill them in `policyscope.engine`, what people see of them in `policyscope.views`; the
life of a run, from refusal to end, in `policyscope.commands.session`.
"""
