"""The live page: its channel list, its files and its ASGI application."""
