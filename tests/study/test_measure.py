"""Measuring: the least disturbed call, and processes that leave their caller as it was."""

from __future__ import annotations

import os

from decsc_core.study import measure


def test_the_fastest_call_is_that_of_the_least_cpu_time(monkeypatch):
    clock = iter([0.0, 3.0, 10.0, 11.0, 20.0, 22.0])
    monkeypatch.setattr(measure.time, "process_time", lambda: next(clock))
    monkeypatch.setattr(measure.time, "perf_counter", lambda: 0.0)
    results = iter("abc")
    assert measure.fastest(lambda: next(results), 3) == (1.0, 0.0, "c")


def test_a_process_to_measure_in_leaves_the_threads_of_the_caller(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with measure.worker(2) as process:
        assert process.submit(int, "7").result() == 7
    assert os.environ["OMP_NUM_THREADS"] == "3"
