"""`python -m consumers.bookings`: the process that makes bookings follow their payments."""

import sys

from consumers.bookings.app import main

if __name__ == "__main__":
    sys.exit(main())
