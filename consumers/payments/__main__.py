"""`python -m consumers.payments`: the process that keeps the state of payments."""

import sys

from shared import beginning, garbage

if __name__ == "__main__":
    beginning.may_end()
    with garbage.uncollected():
        from consumers.payments.app import main
    sys.exit(main())
