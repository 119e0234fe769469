"""One module a command: the order in which the other rooms are asked."""
