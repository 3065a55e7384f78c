"""Figures that anybody can repeat: `make bench`, or `make bench ARGS=--quick`.

Every row is measured in interleaved rounds beside its ceiling, so that a slow minute of the machine slows both; what is
printed is the median with its spread, and the machine's load before and after.
"""
