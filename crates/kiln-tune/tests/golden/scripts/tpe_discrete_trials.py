"""Writes tpe_discrete_trials.json: studies of Optuna's TPE over coarse grids, to be reproduced draw by draw from the same
seed. On a coarse grid values repeat, and which of several equal observations gets which bandwidth depends on NumPy's sort,
which is unstable and not the same on every CPU. So NumPy must sort without vector instructions:

    NPY_DISABLE_CPU_FEATURES="X86_V3 X86_V4 AVX2 AVX512F AVX512_SKX" python tpe_discrete_trials.py > ../studies/tpe_discrete_trials.json

(NumPy warns of the names that its release does not know.) Without the variable that is how NumPy sorts on ARM, and on x86
before NumPy 1.25; from 1.25 on it sorts otherwise with AVX-512, and from 2.0 on with AVX2 as well.

Made with Optuna 5.0.0, Python 3.11, numpy 2.4.
"""

import json

import numpy as np
import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)

WITHOUT_VECTORS = [0, 15, 12, 18, 6, 9, 3, 4, 7, 8, 10, 11, 2, 13, 14, 1, 16, 17, 5, 19]
# The order of equal numbers tells how NumPy sorts.
ORDER = [int(i) for i in np.argsort(np.array([float(i * i % 3) for i in range(20)]))]
assert ORDER == WITHOUT_VECTORS, "NumPy sorts with vector instructions here; set NPY_DISABLE_CPU_FEATURES"


def coarse(trial):
    n = trial.suggest_int("n", 0, 12)
    s = trial.suggest_float("s", -1, 1, step=0.25)
    w = trial.suggest_int("w", 1, 64, log=True)
    k = trial.suggest_int("k", 4, 40, step=4)
    c = trial.suggest_categorical("c", ["a", "b", None])
    return abs(n - 7) + (s - 0.5) ** 2 * 4 + abs(w - 20) / 20 + (k - 24) ** 2 / 100 + (c == "b")


def numbers(trial):
    n = trial.suggest_int("n", 0, 12)
    s = trial.suggest_float("s", -1, 1, step=0.25)
    w = trial.suggest_int("w", 1, 64, log=True)
    k = trial.suggest_int("k", 4, 40, step=4)
    return abs(n - 7) + (s - 0.5) ** 2 * 4 + abs(w - 20) / 20 + (k - 24) ** 2 / 100


def two(trial):
    n = trial.suggest_int("n", 0, 12)
    k = trial.suggest_int("k", 0, 20, step=2)
    return n + k / 4, (n - 8) ** 2 + (k - 14) ** 2 / 4


CASES = {
    "coarse": (coarse, ["minimize"], {}, 250),
    # Without choices: two that were tried alike have one score, and the last bit of a logarithm decides between them.
    "numbers-univariate": (numbers, ["minimize"], {"multivariate": False}, 150),
    "coarse-endpoints": (coarse, ["maximize"], {"consider_endpoints": True, "consider_magic_clip": False}, 120),
    "coarse-two-objectives": (two, ["minimize", "minimize"], {}, 120),
}

out = []
for name, (objective, directions, options, n_trials) in CASES.items():
    study = optuna.create_study(directions=directions, sampler=optuna.samplers.TPESampler(seed=7, **options))
    study.optimize(objective, n_trials=n_trials)
    out.append(
        {
            "name": name,
            "directions": directions,
            "options": options,
            "trials": [[t.params, t.values] for t in study.trials],
        }
    )
print(json.dumps(out, separators=(",", ":")))
