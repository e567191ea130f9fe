"""Authenticators for the handshake of a wshub hub.

Nothing is here yet. This package will hold authenticators for API keys, bearer tokens, query
tokens, tokens in the subprotocol, cookies and JSON Web Tokens.
"""
