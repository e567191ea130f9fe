"""Transports: sockets, the hub's own server, and ASGI."""
