"""`python -m consumers.payments`: the process that keeps the truth about payments."""

import sys

from consumers.payments.app import main

if __name__ == "__main__":
    sys.exit(main())
