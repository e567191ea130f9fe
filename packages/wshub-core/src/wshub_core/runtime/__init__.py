"""Runtime: the hub on asyncio, its connections, its transport, and the process runner."""
