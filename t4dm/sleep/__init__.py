"""The why of consolidation: when to sleep, what to replay, to merge and to forget."""
