"""The images of the processes: a Dockerfile with a target for each, and what a container asks its process."""
