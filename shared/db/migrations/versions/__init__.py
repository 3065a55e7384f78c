"""One file a step, each in its own words, never edited after it ran anywhere."""
