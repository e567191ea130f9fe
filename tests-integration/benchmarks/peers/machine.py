"""The machine of a run, for the report."""

import os
import platform
from pathlib import Path


def describe_machine() -> dict[str, str]:
    """Return the processor, the system, and the load before the run."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "system": f"{platform.system()} {platform.release()}",
        "load average before the run": f"{os.getloadavg()[0]:.2f}",
    }
