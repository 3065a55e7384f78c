"""`python -m consumers.email`: the process that tells people."""

import sys

from consumers.email.app import main

if __name__ == "__main__":
    sys.exit(main())
