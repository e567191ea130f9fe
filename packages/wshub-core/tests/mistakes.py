"""What application code raises by mistake, also what is no `Exception`."""

import asyncio


class Outcome(BaseException):
    """What pytest raises for skips and failures, for one, is no Exception either."""


def raise_cancelled() -> None:
    """Raise as awaiting something does that has been cancelled."""
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
