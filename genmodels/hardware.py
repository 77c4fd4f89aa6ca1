"""Which device a run computes on, how exactly, and how much memory there is."""

import ctypes
import os
import sys
from pathlib import Path

import torch

UNKNOWN_MEMORY = 8 * 2**30  # bytes, taken for granted where the system does not say
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of mallopt(3)
CGROUP_LIMIT = Path(
    "/sys/fs/cgroup/memory.max"
)  # of containers and batch systems; holds a number, or "max"


def choose_device(name: str) -> torch.device:
    """The named device, or for "auto" the best that is there. Raises ValueError where it is not there."""
    if name == "auto":
        name = (
            "cuda"
            if torch.cuda.is_available()
            else "mps"
            if torch.backends.mps.is_available()
            else "cpu"
        )
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device={name}: torch sees {torch.cuda.device_count()} CUDA devices here")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"device={name}: not available here")
    return device


def choose_kernels(deterministic: bool) -> None:
    """Let torch use only deterministic kernels, or any. CUDA needs a workspace of fixed size for it."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if (
        torch.are_deterministic_algorithms_enabled() != deterministic
    ):  # to set it imports the compiler: a second
        torch.use_deterministic_algorithms(deterministic)


def choose_precision(name: str, device: torch.device) -> str:
    """fp32 or bf16 as named; for "auto" bf16 where the processor multiplies matrices in it, else fp32.

    A CPU without such instructions (AMX, AVX512-BF16) emulates bf16: measured at a quarter of the speed of fp32.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    able = (
        torch.cpu.get_capabilities()
        if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities")
        else {}
    )
    return "bf16" if able.get("amx_bf16") or able.get("avx512_bf16") else "fp32"


def keep_freed_memory() -> None:
    """Let glibc's allocator keep what is freed for what is asked for next, also of large tensors, in this process.

    Otherwise the activations of each step come as fresh pages, which Linux fills with zeros first. Elsewhere than on
    Linux with glibc this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter, value in (
            (M_MMAP_MAX, 0),
            (M_TRIM_THRESHOLD, 2**31 - 1),
            (M_TOP_PAD, 2**26),
        ):
            mallopt(parameter, value)


def memory() -> int:
    """Bytes of main memory that this process may use: the machine's, or a container's share of it."""
    if not hasattr(os, "sysconf"):  # Windows
        return UNKNOWN_MEMORY
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.is_file() else "max"
    return min(total, int(limit)) if limit.isdigit() else total


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
