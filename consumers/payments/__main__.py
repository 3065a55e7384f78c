"""`python -m consumers.payments`: the process that keeps the truth about payments."""

import sys

from consumers.payments.app import main

sys.exit(main())
