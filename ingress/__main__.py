"""`python -m ingress`: the process that takes HTTP. Next: serving.py."""

import sys

from shared import beginning, garbage

if __name__ == "__main__":
    beginning.may_end()
    with garbage.uncollected():
        from ingress.serving import main
    sys.exit(main())
