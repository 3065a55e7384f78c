"""`python -m deploy.ops`: the same as `cb-ops`, where the command itself is not installed."""

from deploy.ops.command import main

if __name__ == "__main__":
    main()
