"""The live page: its content, its files, and its ASGI application."""
