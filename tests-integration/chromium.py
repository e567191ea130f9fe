"""Where Chromium is, and how tests and benchmarks start it."""

import shutil

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# Chromium's own traffic to its maker is off: these tests talk to this machine only.
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str | None:
    """Return the path of Chromium or Google Chrome; None if there is none."""
    return next(filter(None, map(shutil.which, CHROMIUMS)), None)
