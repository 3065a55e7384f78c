"""`python -m consumers.bookings`: the process that makes bookings follow their payments."""

import sys

from shared import garbage

if __name__ == "__main__":
    with garbage.uncollected():
        from consumers.bookings.app import main
    sys.exit(main())
