"""`python -m consumers.email`: the process that sends letters."""

import sys

from shared import beginning, garbage

if __name__ == "__main__":
    beginning.may_end()
    with garbage.uncollected():
        from consumers.email.app import main
    sys.exit(main())
