"""`python -m consumers.bookings`: the process that makes bookings follow their payments."""

import sys

from consumers.bookings.app import main

sys.exit(main())
