"""What this machine is, and how busy others keep it."""

import os
import platform
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
LEVELS = [
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_bf16",
    "amx_int8",
    "asimd",
]


def describe() -> dict:
    """The CPU's name, the cores and the instruction sets that matter here."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    fields = {
        key.strip(): value.strip()
        for key, _, value in (line.partition(":") for line in cpuinfo.splitlines())
    }
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    return {
        "cpu": fields.get("model name", platform.processor() or platform.machine()),
        "cores": os.cpu_count(),
        "has": [level for level in LEVELS if level in flags],
        "lacks": [level for level in LEVELS[:-1] if level not in flags],
        "system": f"{platform.system()} {platform.release()}",
    }


class Foreign:
    """The share of this machine's CPU time that processes other than one's own took meanwhile."""

    def __init__(self, pids: list[int]) -> None:
        self.pids = pids
        self.time = time.perf_counter()
        self.busy = busy_seconds()
        self.own = own_seconds(pids)

    def share(self) -> float:
        elapsed = (time.perf_counter() - self.time) * (os.cpu_count() or 1)
        foreign = busy_seconds() - self.busy - (own_seconds(self.pids) - self.own)
        return max(0.0, foreign / elapsed)


def busy_seconds() -> float:
    # user nice system idle iowait irq softirq steal …; see proc(5).
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS


def own_seconds(pids: list[int]) -> float:
    """CPU time of these processes and of this one with its finished children."""
    total = sum(os.times()[:4])
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def wait_until_quiet(pids: list[int], limit: float, patience: float) -> None:
    """Returns when others take less than `limit` of the CPU, or after `patience` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        foreign = Foreign(pids)
        time.sleep(0.3)
        if foreign.share() < limit:
            return
