"""The images themselves, where a Docker engine answers: `python -m tests.images`, which `make test-containers` calls first."""
