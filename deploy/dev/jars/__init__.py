"""Kafka's jars: jars.txt pins each by its SHA-256; they are downloaded once and kept in the user's cache."""
