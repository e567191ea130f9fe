"""The progress of a run: one line on a terminal, else a line for each step."""

from typing import TextIO


class Progress:
    """Shows steps, and the details of a step on a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._on_terminal = stream.isatty()
        self._step = ""

    def show(self, step: str) -> None:
        self._step = step
        if self._on_terminal:
            self._rewrite(step)
        else:
            print(step, file=self._stream, flush=True)

    def detail(self, text: str) -> None:
        if self._on_terminal:
            self._rewrite(f"{self._step}, {text}")

    def end(self) -> None:
        if self._on_terminal:
            self._rewrite("")

    def _rewrite(self, text: str) -> None:
        print(f"\r\x1b[K{text}", end="", file=self._stream, flush=True)
