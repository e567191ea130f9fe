"""The same client for browsers: where its file is."""

from importlib.resources import files
from pathlib import Path

BROWSER_MODULE = Path(str(files("wshub_core.browser") / "wshub.js"))
"""The ES module, without dependencies; its TypeScript declarations lie beside it."""
