"""``python -m policyscope`` is the command line."""

from policyscope.cli import main

main()
