"""Edges: where the hub meets the outside, such as HTTP, pages and the command line."""
