"""Batches on their way out: lanes, what rides in them, and replies."""
