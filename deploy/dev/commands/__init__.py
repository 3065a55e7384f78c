"""`cb-dev`: the command line of the box. Enters: what a developer types. Leaves: an answer, and an exit status."""
