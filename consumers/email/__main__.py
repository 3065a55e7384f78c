"""`python -m consumers.email`: the process that tells people."""

import sys

from consumers.email.app import main

sys.exit(main())
