"""The limits of SQS that the library relies on, each with its source.

"Quotas" means *Amazon SQS quotas* in the SQS Developer Guide. The name of an operation means
its page in the SQS API Reference.
"""

from __future__ import annotations

from typing import Final

BATCH_ENTRIES: Final = 10
"""Entries in one batch call (SendMessageBatch, DeleteMessageBatch,
ChangeMessageVisibilityBatch), and messages in one ReceiveMessage."""

BATCH_BYTES: Final = 1_048_576
"""Bytes in one SendMessageBatch, all bodies and attributes together (Quotas)."""

FORMER_BATCH_BYTES: Final = 262_144
"""The value of BATCH_BYTES until 2025. Servers that imitate SQS still have it."""

MESSAGE_BYTES: Final = 1_048_576
"""Bytes in one message: its body, and the names, types and values of its attributes (Quotas)."""

MESSAGE_ATTRIBUTES: Final = 10
"""Attributes on one message (Quotas)."""

ATTRIBUTE_NAME_CHARACTERS: Final = 256
"""Characters in an attribute's name, and in its data type (MessageAttributeValue)."""

WAIT_TIME: Final = 20.0
"""The longest long poll, in seconds (ReceiveMessage)."""

VISIBILITY_TIMEOUT: Final = 43_200.0
"""Twelve hours, in seconds: the longest that a message stays hidden after its receive
(ChangeMessageVisibility)."""

DELAY: Final = 900.0
"""The longest delay of a message, in seconds (SendMessage)."""

RETENTION: Final = 1_209_600
"""Fourteen days, in seconds: the longest `MessageRetentionPeriod` (SetQueueAttributes)."""

MIN_RETENTION: Final = 60
"""The shortest `MessageRetentionPeriod`, in seconds (SetQueueAttributes)."""

QUEUE_NAME_CHARACTERS: Final = 80
"""Characters in a queue's name, `.fifo` included (CreateQueue)."""

LIST_QUEUES_PAGE: Final = 1_000
"""Queues on one page of ListQueues. Without `MaxResults` there is no second page."""

GROUP_ID_CHARACTERS: Final = 128
"""Characters in a message group id or a deduplication id (SendMessage)."""
