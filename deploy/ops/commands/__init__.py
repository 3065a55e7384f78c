"""The commands of `cb-ops`, one file a group: each reads settings, asks, and shows the answer; nothing is decided here."""
