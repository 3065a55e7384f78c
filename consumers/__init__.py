"""Three consumers of one shape: app wires, handlers tell the story, store remembers."""
