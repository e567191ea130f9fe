"""Immutable values and their rules: messages, channels, errors, settings. No asyncio, no clock."""
