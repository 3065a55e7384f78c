"""Everything about Kafka: how a process consumes, publishes, refuses, recovers and stops.

FastStream's defaults lose messages; every one that matters is set here, asserted at start, and tested.
"""
