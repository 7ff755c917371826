"""Writes tpe_trials.json: whole studies of Optuna's TPE, to be reproduced draw by draw from the same seed.

    python tpe_trials.py > ../studies/tpe_trials.json

The grids are fine, so that values do not repeat: which of several equal observations gets which bandwidth depends on
the CPU in Optuna, whose sort is unstable; tpe_discrete_trials.py has coarse ones.

Made with Optuna 5.0.0, Python 3.11, numpy 2.4.
"""

import json
import math

import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)


def mixed(trial):
    x = trial.suggest_float("x", -5, 5)
    lr = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
    s = trial.suggest_float("s", 0, 1, step=0.000001)
    n = trial.suggest_int("n", 1, 12_000_000, step=7)
    w = trial.suggest_int("w", 1000, 1000_000_000, log=True)
    c = trial.suggest_categorical("c", ["a", "b", None])
    return (x - 1) ** 2 + (math.log10(lr) + 3) ** 2 + s + 0.1 * abs(n / 1e6 - 7) + abs(math.log(w) - 10) + (c == "b")


def numeric(trial):
    x = trial.suggest_float("x", -5, 5)
    lr = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
    return (x - 1) ** 2 + (math.log10(lr) + 3) ** 2


def conditional(trial):
    kind = trial.suggest_categorical("kind", ["line", "curve"])
    a = trial.suggest_float("a", 0, 1)
    if kind == "curve":
        b = trial.suggest_float("b", -1, 1)
        return (a - 0.3) ** 2 + (b - 0.5) ** 2
    return 0.3 + (a - 0.8) ** 2


def two(trial):
    x = trial.suggest_float("x", 0, 1)
    y = trial.suggest_float("y", 0, 1)
    return x, (1 + y) * (1 - math.sqrt(x / (1 + y)))


def constrained(trial):
    x = trial.suggest_float("x", -2, 2)
    y = trial.suggest_float("y", -2, 2)
    trial.set_constraint("disk", x * x + y * y - 1)
    return x + y


CASES = {
    "mixed": (mixed, ["minimize"], {}, 120),
    "numeric-maximize-univariate": (numeric, ["maximize"], {"multivariate": False}, 60),
    "conditional": (conditional, ["minimize"], {}, 60),
    "conditional-group": (conditional, ["minimize"], {"group": True}, 60),
    "two-objectives": (two, ["minimize", "minimize"], {}, 50),
    "two-objectives-multivariate": (two, ["minimize", "minimize"], {"multivariate": True}, 50),
    "constrained": (constrained, ["minimize"], {}, 50),
    "options": (
        mixed,
        ["minimize"],
        {"n_startup_trials": 5, "n_ei_candidates": 8, "prior_weight": 0.5, "consider_endpoints": True, "consider_magic_clip": False},
        40,
    ),
}

out = []
for name, (objective, directions, options, n_trials) in CASES.items():
    study = optuna.create_study(directions=directions, sampler=optuna.samplers.TPESampler(seed=7, **options))
    study.optimize(objective, n_trials=n_trials)
    trials = [[t.params, t.values] for t in study.trials]
    space = {}
    for t in study.trials:
        for key, d in t.distributions.items():
            space[key] = json.loads(optuna.distributions.distribution_to_json(d))
    out.append({"name": name, "directions": directions, "options": options, "space": space, "trials": trials})
print(json.dumps(out, separators=(",", ":")))
