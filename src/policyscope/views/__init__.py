"""What people look at: the terminal table and the picture, drawn from a stored run alone."""
