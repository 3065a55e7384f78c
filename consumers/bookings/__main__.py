"""`python -m consumers.bookings`: the process that makes bookings follow their payments."""

import sys

from shared import beginning, garbage

if __name__ == "__main__":
    beginning.may_end()
    with garbage.uncollected():
        from consumers.bookings.app import main
    sys.exit(main())
