#!/usr/bin/env bash
# Every table and figure, from one command.
#
#   ./run_all.sh                   the quick profile: embedded scenes, half an hour on a laptop
#   ./run_all.sh --profile NAME    another profile of config/ (standard, ...); scenes from DECSC_DATA
#   ./run_all.sh setup             only make the environment
#   ./run_all.sh test [...]        the test suite; what follows goes to pytest
#   ./run_all.sh explore [...]     JupyterLab on the explorers; what follows goes to it
#
# Anything else goes to Snakemake: ./run_all.sh -n, ./run_all.sh --cores 8, ./run_all.sh --executor slurm --jobs 100.
# An active environment that has the package is used as it is; otherwise .venv is made from requirements.lock.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# Large tensors otherwise go back to the system after every operation, which can cost more than the arithmetic.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456
# Threads that wait for each other sleep: on shared cores spinning costs far more than it saves.
export OMP_WAIT_POLICY=PASSIVE

fail() { echo "run_all.sh: $*" >&2; exit 2; }

has_package() { "$1" -I -c 'import importlib.metadata as m; m.version("decsc-core")' >/dev/null 2>&1; }

environment() {
    if [[ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]] && has_package "$(command -v python)"; then
        return
    fi
    local stamp=.venv/.decsc wanted
    wanted=$(cat requirements.lock pyproject.toml | cksum)
    if [[ ! -x .venv/bin/python || "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]]; then
        local python
        for python in python3.11 python3.12 python3.13 python3; do
            "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break
            python=
        done
        [[ -n "$python" ]] || fail "Python 3.11 or newer is needed and was not found; install it or activate a conda environment"
        echo "run_all.sh: making .venv (once, some minutes)" >&2
        "$python" -m venv .venv
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
        echo "$wanted" > "$stamp"
    fi
    export VIRTUAL_ENV="$PWD/.venv" PATH="$PWD/.venv/bin:$PATH"
}

case "${1:-}" in
    setup)
        [[ $# -eq 1 ]] || fail "setup takes no arguments"
        environment
        exit ;;
    test)
        shift
        environment
        export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # several processes side by side are faster than one with several threads
        exec python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder "$@" ;;
    explore)
        shift
        environment
        exec python -m jupyter lab notebooks/11_explore.ipynb "$@" ;;
    help | --help | -h)
        sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p;}' "$0"
        exit ;;
esac

# Jobs that run at once on this machine share its GPUs, which Snakemake does not count.
gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU') || true
limits=(--resources "gpu=$((gpus > 1 ? gpus : 1))")
profile=quick
cores=(--cores all)
rest=()
while [[ $# -gt 0 ]]; do
    case "$1" in
        --profile) [[ $# -ge 2 ]] || fail "--profile needs a name"; profile=$2; shift 2 ;;
        --profile=*) profile=${1#*=}; shift ;;
        --cores | --cores=* | -c | -c[0-9]* | --jobs | --jobs=* | -j | -j[0-9]*) cores=(); rest+=("$1"); shift ;;
        --executor | --executor=* | -e | -e[a-z]* | --resources | --resources=* | --res | --res=*) limits=(); rest+=("$1"); shift ;;
        *) rest+=("$1"); shift ;;
    esac
done
[[ -f "config/$profile.yaml" ]] || fail "no profile '$profile'; there are: $(cd config && ls *.yaml | sed 's/\.yaml//' | paste -sd' ' -)"
environment
# Snakemake looks for work again after this span for every job that has ended, the default second even while all wait, and at the end waits for the last one.
cores+=(--max-jobs-per-timespan 1000/10s)
# Jobs that were under way when a run was killed are done again. A file that has another date but its old content counts as
# unchanged, networks included: up to 100 MB instead of 1 MB.
exec snakemake ${cores[@]+"${cores[@]}"} ${rest[@]+"${rest[@]}"} ${limits[@]+"${limits[@]}"} --configfile "config/$profile.yaml" \
    --rerun-triggers mtime params code input --rerun-incomplete --max-checksum-file-size 100000000
