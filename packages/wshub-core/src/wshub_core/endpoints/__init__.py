"""ASGI applications for plain HTTP beside a hub."""
