"""What a comparison of runs looks like: in a terminal, in a pull request, for CI, for scripts."""
