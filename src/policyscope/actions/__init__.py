"""What an action is: its space, its dims, their units; and the robots that we know."""
