"""The ``wshub`` command."""
