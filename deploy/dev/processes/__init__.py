"""The processes of a box: starting one, its port, keeping it up, and ending it."""
