"""The error tree, by cure.

PipelineError
├── Transient        the world is unwell: wait, then do the same again (rewind, 503, pause)
│   ├── KafkaAway    no acknowledgement within the deadline; the record may or may not be in the log
│   └── Stopping     the process ends: what was not begun is left for the next one
└── Permanent        the data is wrong: no repetition helps (dead letter, 4xx)
"""


class PipelineError(Exception):
    """What this project raises on purpose; the message names ids, never people or secrets."""


class Transient(PipelineError):
    """The world is unwell; the same call may succeed later."""


class KafkaAway(Transient):
    """Kafka did not acknowledge in time. Unknown is treated as absent: the sender repeats, the inbox absorbs."""


class Stopping(Transient):
    """The process was told to end before this was begun. No cancellation: that is asyncio's own, and nobody may swallow it."""


class Permanent(PipelineError):
    """The data is wrong; repeating the call repeats the error."""
