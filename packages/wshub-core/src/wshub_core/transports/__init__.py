"""The transports of WebSockets: the hub's own server, and ASGI applications."""
