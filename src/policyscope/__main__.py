"""``python -m policyscope`` is the command line."""

from policyscope.commands.cli import main

main()
