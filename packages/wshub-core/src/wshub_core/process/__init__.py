"""The process runner: publishes the output of a command."""
