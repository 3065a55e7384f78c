"""How large a record is on its way to Kafka, by aiokafka, which packs it.

Next: producer.py and dead_letters.py, which hold records to their limits.
"""

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from shared.kafka.records import Record


def bytes_max(record: Record) -> int:
    """Return how many bytes a batch of this one record has at most, before compression."""
    size: int = DefaultRecordBatchBuilder.estimate_size_in_bytes(record.key, record.value, list(record.headers))
    return size
