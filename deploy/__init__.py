"""Everything around the pipeline: the world in a box for developers, the operator's room, the images."""
