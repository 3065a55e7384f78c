"""The error tree, by cure.

PipelineError
├── Transient        a service is unavailable: wait, then do the same again (rewind, 503, pause)
│   ├── KafkaAway    no acknowledgement within the deadline; the record may or may not be in the log
│   └── Stopping     the process ends: what was not begun is left for the next one
└── Permanent        the data is wrong: no repetition helps (dead letter, 4xx)
"""


class PipelineError(Exception):
    """What this project raises on purpose; the message names ids, never people or secrets."""


class Transient(PipelineError):
    """A service is unavailable; the same call may succeed later."""


class KafkaAway(Transient):
    """Kafka did not acknowledge in time. Unknown counts as absent: the sender repeats, and the inbox drops the duplicate."""


class Stopping(Transient):
    """The process is stopping and did not begin this. Not asyncio's cancellation, which nobody may swallow."""


class Permanent(PipelineError):
    """The data is wrong; repeating the call repeats the error."""
