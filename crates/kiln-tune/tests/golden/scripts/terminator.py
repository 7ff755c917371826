"""Writes terminator.json: what Optuna's terminator says of studies that are given in the file.

    python terminator.py > ../terminator.json

Needs optuna 5.0.0 and torch. Two things depend on the seed or on the minimizer, and are settled for "exact": the points at
which the regret bound is looked for are those of the plain Sobol sequence, and the fitted kernels are told. "optuna" is what
Optuna says as it is, with seed 0.
"""

import json
import warnings

import numpy as np
import optuna
import scipy.stats.qmc
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.terminator import (
    BestValueStagnationEvaluator,
    CrossValidationErrorEvaluator,
    EMMREvaluator,
    MedianErrorEvaluator,
    RegretBoundEvaluator,
    StaticErrorEvaluator,
    Terminator,
)
from optuna.terminator.improvement import emmr, evaluator
from optuna.terminator.erroreval import _CROSS_VALIDATION_SCORES_KEY
from optuna.trial import TrialState

warnings.filterwarnings("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)

SPACES = {
    "floats": {"x": FloatDistribution(-2, 2), "lr": FloatDistribution(1e-4, 1, log=True)},
    "mixed": {
        "x": FloatDistribution(0, 1),
        "n": IntDistribution(1, 8),
        "kind": CategoricalDistribution(["a", "b", "c"]),
    },
    "one": {"x": FloatDistribution(-1, 1)},
}


def value(params, rng):
    total = 0.0
    for v in params.values():
        total += {"a": 0.0, "b": 0.3, "c": 0.9}[v] if isinstance(v, str) else (np.log1p(v * v))
    return float(total + 0.05 * rng.randn())


def study(name, space, direction, n, seed, others=False):
    """Trials that come nearer to the best with time, as those of a sampler do; `others` are pruned and failed ones between."""
    rng = np.random.RandomState(seed)
    distributions = SPACES[space]
    sampler = optuna.samplers.TPESampler(seed=seed)
    s = optuna.create_study(direction=direction, sampler=sampler)
    sign = -1 if direction == "maximize" else 1
    for i in range(n):
        t = s.ask(distributions)
        if others and i % 5 == 3:
            s.tell(t, state=TrialState.FAIL if i % 2 else TrialState.PRUNED)
            continue
        v = sign * value(t.params, rng)
        scores = (v + 0.2 * rng.randn(5)).tolist()
        t.storage.set_trial_system_attr(t._trial_id, _CROSS_VALIDATION_SCORES_KEY, scores)
        s.tell(t, v)
    return {"name": name, "space": space, "direction": direction, "study": s}


def exactly(function):
    """Calls the function with plain Sobol points, and tells the kernels that were fitted, in their order."""
    # Reading them loads both modules, which are lazy.
    sobol, fit, _ = scipy.stats.qmc.Sobol, evaluator.gp.fit_kernel_params, emmr.gp.fit_kernel_params
    kernels = []

    def told_fit(*args, **kwargs):
        g = fit(*args, **kwargs)
        kernels.append(
            {
                "inverse_squared_lengthscales": g.inverse_squared_lengthscales.tolist(),
                "kernel_scale": g.kernel_scale.item(),
                "noise_var": g.noise_var.item(),
            }
        )
        return g

    scipy.stats.qmc.Sobol = lambda dim, scramble, seed: sobol(dim, scramble=False)
    # Each module has a copy of what it imported.
    evaluator.gp.fit_kernel_params = emmr.gp.fit_kernel_params = told_fit
    try:
        return {"value": function(), "kernels": kernels}
    finally:
        scipy.stats.qmc.Sobol = sobol
        evaluator.gp.fit_kernel_params = emmr.gp.fit_kernel_params = fit


def told(trial):
    return {
        "state": trial.state.name,
        "value": trial.value,
        "params": {k: trial.distributions[k].to_internal_repr(v) for k, v in trial.params.items()},
        "cv_scores": trial.system_attrs.get(_CROSS_VALIDATION_SCORES_KEY),
    }


def first_stop(terminator, s):
    """After how many trials the terminator ends the study."""
    for n in range(1, len(s.trials) + 1):
        part = optuna.create_study(direction=s.direction)
        part.add_trials(s.trials[:n])
        if terminator.should_terminate(part):
            return n
    return None


def case(name, space, direction, n, seed, others=False):
    made = study(name, space, direction, n, seed, others)
    s = made["study"]
    sign = StudyDirection.MAXIMIZE if direction == "maximize" else StudyDirection.MINIMIZE
    rows = []
    for k in sorted({2, 3, 10, 21, 30, n // 2, n - 1, n}):
        trials = s.trials[:k]
        regret, model_regret = lambda: RegretBoundEvaluator(seed=0), lambda: EMMREvaluator(seed=0)
        deterministic = lambda: EMMREvaluator(seed=0, deterministic_objective=True)
        small = lambda: RegretBoundEvaluator(seed=0, top_trials_ratio=0.3, min_n_trials=5)
        say = lambda make: float(make().evaluate(trials, sign))
        exact = lambda make: exactly(lambda: say(make))
        rows.append(
            {
                "n": k,
                "regret_bound": {"exact": exact(regret), "optuna": say(regret)},
                "regret_bound_of_few": {"exact": exact(small), "optuna": say(small)},
                "emmr": {"exact": exact(model_regret), "optuna": say(model_regret)},
                "emmr_deterministic": {"exact": exact(deterministic), "optuna": say(deterministic)},
                "stagnation": BestValueStagnationEvaluator(12).evaluate(trials, sign),
                "cv_error": CrossValidationErrorEvaluator().evaluate(trials, sign),
                "median_error_of_stagnation": MedianErrorEvaluator(
                    BestValueStagnationEvaluator(12), 3, 9, 0.5
                ).evaluate(trials, sign),
            }
        )
    stops = {
        "stagnation": first_stop(Terminator(BestValueStagnationEvaluator(4), min_n_trials=3), s),
        "regret_bound_cv": first_stop(Terminator(RegretBoundEvaluator(seed=0)), s),
        "regret_bound_static": first_stop(
            Terminator(RegretBoundEvaluator(seed=0), StaticErrorEvaluator(1.5), min_n_trials=5), s
        ),
    }
    return {
        "name": name,
        "space": {k: json.loads(optuna.distributions.distribution_to_json(d)) for k, d in SPACES[space].items()},
        "direction": direction,
        "trials": [told(t) for t in s.trials],
        "evaluated": rows,
        "stops_after": stops,
    }


print(
    json.dumps(
        {
            "optuna": optuna.__version__,
            "cases": [
                case("one parameter", "one", "minimize", 40, 1),
                case("floats, minimized", "floats", "minimize", 50, 2),
                case("floats, maximized, with pruned and failed trials", "floats", "maximize", 56, 3, True),
                case("mixed", "mixed", "minimize", 45, 4),
            ],
        }
    )
)
