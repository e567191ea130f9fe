"""Exceptions that application code raises by mistake, not all of them `Exception`s."""

import asyncio


class Outcome(BaseException):
    """A `BaseException`, as pytest raises it for skips and failures."""


def raise_cancelled() -> None:
    """Raise `asyncio.CancelledError`, as after awaiting a cancelled future."""
    job = asyncio.get_running_loop().create_future()
    job.cancel()
    job.result()


def raise_outcome() -> None:
    raise Outcome


def raise_generator_exit() -> None:
    raise GeneratorExit


def raise_error() -> None:
    raise ValueError("mistake")


MISTAKES = [raise_cancelled, raise_outcome, raise_generator_exit, raise_error]
