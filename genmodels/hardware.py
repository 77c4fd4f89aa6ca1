"""Which device a run computes on, with how many threads, how exactly; how much memory there is."""

import ctypes
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from genmodels import torchrun

UNKNOWN_MEMORY = 8 * 2**30  # bytes, assumed where the system does not say
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of mallopt(3)
# Of containers and batch systems; it holds a number, or "max".
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
PROCESSOR_TIMES = Path("/proc/stat")  # of Linux
OBSERVED_SECONDS = 0.3  # in which cores are found busy
BUSY_SHARE = 0.5  # of that time, for which a busy core computes
MOST_THREADS = torch.get_num_threads()  # before a run has chosen its own


def choose_device(name: str) -> torch.device:
    """The named device; "auto" takes the best that is there. Raises ValueError if it is missing."""
    if name == "auto":
        name = _best_device()
    device = torch.device(name)
    if device.type == "cuda" and device.index is None and torchrun.processes() > 1:
        device = torch.device("cuda", torchrun.local_rank())
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device={name}: torch sees {torch.cuda.device_count()} CUDA devices here")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"device={name}: not available here")
    return device


def choose_kernels(deterministic: bool) -> None:
    """Let torch use only deterministic kernels, for which CUDA needs a fixed workspace, or any."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Setting it imports the compiler, which takes a second.
    if torch.are_deterministic_algorithms_enabled() != deterministic:
        torch.use_deterministic_algorithms(deterministic)


def choose_precision(name: str, device: torch.device) -> str:
    """fp32 or bf16 as named; "auto" takes bf16 where the processor multiplies matrices in it.

    A CPU without such instructions (AMX, AVX512-BF16) emulates bf16, at a quarter of the speed of
    fp32 as measured.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    multiplies = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
    return "bf16" if multiplies else "fp32"


def choose_threads(asked: int | None) -> int:
    """How many threads torch is to compute with: as asked for.

    None takes OMP_NUM_THREADS if that is set, else as many as there are cores that no other process
    keeps busy, and at least one. Threads wait for each other many times in a step: where they share
    cores with other processes, a step takes up to ten times as long as with one thread.
    """
    if asked is None:
        wish = os.environ.get("OMP_NUM_THREADS", "")
        asked = int(wish) if wish.isdigit() else min(MOST_THREADS, cores() - busy_cores())
    return max(1, asked)


def busy_cores() -> int:
    """How many of this process's cores compute while it sleeps; 0 where the system does not say."""
    if not PROCESSOR_TIMES.is_file():
        return 0
    before = _idle_seconds()
    time.sleep(OBSERVED_SECONDS)
    after = _idle_seconds()
    idle = [after[core] - before[core] for core in os.sched_getaffinity(0) & before.keys()]
    return sum(seconds < (1 - BUSY_SHARE) * OBSERVED_SECONDS for seconds in idle)


def _idle_seconds() -> Mapping[int, float]:
    """The time that each core has been idle since the machine started."""
    seconds = {}
    for line in PROCESSOR_TIMES.read_text().splitlines():
        name, *ticks = line.split()
        number = name.removeprefix("cpu")
        if number.isdigit():  # "cpu" alone has the sum
            _, _, _, idle, waiting, *_ = map(int, ticks)
            seconds[int(number)] = (idle + waiting) / os.sysconf("SC_CLK_TCK")
    return seconds


def keep_freed_memory() -> None:
    """Let glibc's allocator reuse freed memory, also of large tensors, in this process.

    Otherwise the activations of each step come as fresh pages, which Linux fills with zeros first.
    Elsewhere than on Linux with glibc this does nothing.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_TOP_PAD, 2**26)


def memory() -> int:
    """Bytes of main memory that this process may use: the machine's, or a container's share."""
    if sys.platform == "win32":
        return UNKNOWN_MEMORY
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.is_file() else "max"
    return min(total, int(limit)) if limit.isdigit() else total


def cores() -> int:
    """How many processors this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
