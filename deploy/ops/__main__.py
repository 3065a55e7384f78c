"""`python -m deploy.ops`: the same as `cb-ops`, where the command itself is not installed."""

from deploy.ops.cli import main

if __name__ == "__main__":
    main()
