"""Names errors for logs and dead letters, without what they say: that may be data. Next: an operator, who reads the name."""

import errno

from shared.db.engine import driver_error, sqlstate


def error_name(error: BaseException) -> str:
    """Return an error's name without its text, which may hold data: its type, and its SQLSTATE or errno's name, if any."""
    code = sqlstate(error) or (errno.errorcode.get(error.errno or 0) if isinstance(error, OSError) else None)
    name = type(driver_error(error)).__name__
    return f"{name}:{code}" if code else name
