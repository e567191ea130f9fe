"""The `wshub` command."""
