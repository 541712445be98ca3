"""What the model-driven methods share: the ranges of their parameters, and what is told of their iterations."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from typer.testing import CliRunner

from decsc_core.cli import app
from decsc_core.denoisers.classical.base import check_counts, check_least, check_positive
from decsc_core.denoisers.classical.bm4d import BM4D
from decsc_core.denoisers.classical.e3dtv import E3DTV
from decsc_core.denoisers.classical.llrt import LLRT
from decsc_core.denoisers.classical.logtnn import LogTNN
from decsc_core.denoisers.classical.lrmr import LRMR
from decsc_core.denoisers.classical.mtsnmf import MTSNMF
from decsc_core.denoisers.classical.ngmeet import NGMeet


@pytest.mark.parametrize(("check", "wrong"), [
    (check_positive, 0), (check_positive, -1.0), (check_positive, float("nan")), (check_positive, float("inf")),
    (partial(check_least, 1), 0.9), (partial(check_least, 1), float("nan")), (partial(check_least, 0), float("inf")),
    (check_counts, 0), (check_counts, 2.5), (check_counts, -3), (check_counts, 5.0), (check_counts, "5"),
])
def test_parameters_out_of_range_are_named(check, wrong):
    check(fine=1, absent=None)
    with pytest.raises(ValueError, match=f"odd={wrong} must be a"):
        check(fine=1, odd=wrong)


def test_counts_may_be_any_whole_numbers_from_the_least_on():
    check_counts(0, least=0, other=np.int64(3))
    with pytest.raises(ValueError, match="odd=-1 must be a whole number of at least 0$"):
        check_counts(0, odd=-1)


@pytest.mark.parametrize("name", ["lrmr", "e3dtv"])
def test_nothing_is_told_of_convergence_where_the_number_of_steps_is_fixed(name, tmp_path):
    np.save(tmp_path / "noisy.npy", np.random.default_rng(0).random((12, 12, 5), dtype=np.float32))
    done = CliRunner().invoke(app, ["denoise", f"{tmp_path}/noisy.npy", f"{tmp_path}/clean.npy", "--method", name])
    assert done.exit_code == 0 and "converge" not in done.output and (tmp_path / "clean.npy").exists()


@pytest.mark.parametrize(("method", "option"), [
    (BM4D, "group"), (BM4D, "half_window"), (BM4D, "step"), (MTSNMF, "patch"), (MTSNMF, "atoms"), (MTSNMF, "stride"),
    (MTSNMF, "iterations"), (LLRT, "patch"), (LLRT, "inner"), (NGMeet, "growth"), (NGMeet, "patch"), (LRMR, "rank"),
    (LRMR, "block"), (LRMR, "step"), (LRMR, "iterations"), (LRMR, "power"), (E3DTV, "rank"), (E3DTV, "iterations"),
    (LogTNN, "iterations"),
])
def test_a_number_that_is_not_whole_is_refused_by_every_method(method, option):
    for wrong in (2.5, 5.0):
        with pytest.raises(ValueError, match=f"^{option}={wrong} must be a whole number of at least [01]$"):
            method(**{option: wrong})
    method(**{option: np.int64(4)})
