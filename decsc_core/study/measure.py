"""Seconds and memory: the call that other load disturbs least, the peak of a process, processes to measure in."""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def fastest(work: Callable[[], T], repeats: int) -> tuple[float, float, T]:
    """CPU and wall seconds of the call with the least CPU time, that other load disturbs least, and the last result."""
    times = []
    for _ in range(repeats):
        started = time.process_time(), time.perf_counter()
        result = work()
        times.append((time.process_time() - started[0], time.perf_counter() - started[1]))
    return *min(times), result


def peak_memory() -> float:
    """The most memory that this process has held so far [MB]."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def worker(threads: int) -> ProcessPoolExecutor:
    """A fresh process in which to measure with that many threads.

    It is forked from a server that has imported the libraries and done nothing else, which saves seconds a process. The
    number of threads of the first worker holds for the libraries of all; torch's is set by what runs there.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["decsc_core.networks.catalog"])
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    forkserver.ensure_running()
    del os.environ["OMP_NUM_THREADS"]
    if before is not None:
        os.environ["OMP_NUM_THREADS"] = before
    return ProcessPoolExecutor(1, mp_context=context)
