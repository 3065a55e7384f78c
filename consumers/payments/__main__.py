"""`python -m consumers.payments`: the process that keeps the truth about payments."""

import sys

from shared import garbage

if __name__ == "__main__":
    with garbage.uncollected():
        from consumers.payments.app import main
    sys.exit(main())
