"""`python -m ingress`: the process that takes HTTP. Next: serving.py."""

import sys

from shared import garbage

if __name__ == "__main__":
    with garbage.uncollected():
        from ingress.serving import main
    sys.exit(main())
