"""State without input and output: registry, outbox, frames, heartbeat and deadlines.

These modules use neither asyncio nor a clock. The current time is an argument.
"""
