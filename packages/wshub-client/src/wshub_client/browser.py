"""The path of the client for browsers."""

from importlib.resources import files
from pathlib import Path

BROWSER_MODULE = Path(str(files("wshub_core.browser") / "wshub.js"))
"""The path of the ES module; its TypeScript declarations are in the same directory."""
