"""Pure state: what changes, driven by calls alone. Time comes in as an argument."""
