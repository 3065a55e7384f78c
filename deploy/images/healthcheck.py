"""What Docker asks a container's process, on the process's own health port: `python healthcheck.py live|ready`.

Enters: HEALTH_HOST and HEALTH_PORT. Leaves: exit status 0 when the process says that it is well, else 1 with its answer, which
`docker inspect` keeps. The standard library alone: this runs every few seconds, and the pipeline's imports cost a second.
"""

import http.client
import os
import sys

# Longer than a process takes to tell that Kafka or PostgreSQL is silent (4 s at most): it is not unhealthy for that, and nobody
# shall restart it. Docker waits for 5 s.
SECONDS_MAX = 4.5


def main() -> int:
    """Ask once."""
    variables = os.environ  # noqa: TID251 - shared/environment.py would be most of that second
    host, port = variables.get("HEALTH_HOST") or "0.0.0.0", int(variables.get("HEALTH_PORT") or 0)  # noqa: S104 - is us, too
    if port == 0:
        sys.stdout.write("HEALTH_PORT is off: nobody to ask\n")
        return 0
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS_MAX)
    try:
        connection.request("GET", f"/health/{sys.argv[1]}")
        answer = connection.getresponse()
        sys.stdout.write(f"{answer.status} {answer.read().decode()}\n")
    except (OSError, http.client.HTTPException) as error:
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
        return 1
    finally:
        connection.close()
    return 0 if answer.status == http.HTTPStatus.OK else 1


if __name__ == "__main__":
    sys.exit(main())
