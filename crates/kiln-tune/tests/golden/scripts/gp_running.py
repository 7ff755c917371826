"""Writes gp_running.json: acquisition functions of Optuna's GP sampler while trials are running.

    python gp_running.py > ../gp_running.json

Needs optuna 5.0.0 and torch. The kernels and the normal samples are given in the file, so that nothing is random.
"""

import json

import numpy as np
import torch
from optuna._gp import acqf, gp, search_space
from optuna._gp.qmc import sample_from_normal_sobol
from optuna.distributions import CategoricalDistribution, FloatDistribution

N_SAMPLES = 16
SPACES = {
    "floats": {"a": FloatDistribution(0, 1), "b": FloatDistribution(0, 1)},
    "mixed": {"a": FloatDistribution(0, 1), "c": CategoricalDistribution(["x", "y", "z"])},
}


def regressor(rng, x, is_categorical, shift):
    y = np.sin(4 * x[:, 0] + shift) - x[:, 1] + 0.1 * rng.randn(len(x))
    y = (y - y.mean()) / y.std()
    g = gp.GPRegressor(
        is_categorical=torch.from_numpy(is_categorical),
        X_train=torch.from_numpy(x),
        y_train=torch.from_numpy(y),
        inverse_squared_lengthscales=torch.from_numpy(rng.uniform(0.5, 5, x.shape[1])),
        kernel_scale=torch.tensor(rng.uniform(0.5, 2), dtype=torch.float64),
        noise_var=torch.tensor(rng.uniform(0.001, 0.1), dtype=torch.float64),
    )
    g._cache_matrix()
    return g, y


def case(name, space, n_objectives, n_constraints, n_running, seed, feasible=True):
    rng = np.random.RandomState(seed)
    internal = search_space.SearchSpace(SPACES[space])
    is_categorical = internal.is_categorical

    def points(n):
        x = rng.uniform(0, 1, (n, 2))
        x[:, is_categorical] = rng.randint(0, 3, x[:, is_categorical].shape)
        return x

    x, running, candidates = points(10), points(n_running), points(6)
    fitted = [regressor(rng, x, is_categorical, i) for i in range(n_objectives + n_constraints)]
    gprs, ys = [g for g, _ in fitted], np.array([y for _, y in fitted])
    limits = rng.uniform(-0.8, 0.3, n_constraints).tolist() if feasible else [9.0] * n_constraints
    is_feasible = np.all(ys[n_objectives:] >= np.array(limits)[:, None], axis=0)
    values = ys[:n_objectives].T[is_feasible]
    common = dict(
        search_space=internal,
        n_qmc_samples=N_SAMPLES,
        qmc_seed=seed,
        normalized_params_of_running_trials=running,
    )
    constrained = dict(constraints_gpr_list=gprs[n_objectives:], constraints_threshold_list=limits)
    if n_objectives == 1:
        threshold = float(values.max()) if len(values) else -np.inf
        if n_constraints:
            function = acqf.qLogCEI(gpr=gprs[0], threshold=threshold, **common, **constrained)
        else:
            function = acqf.qLogEI(gpr=gprs[0], threshold=threshold, **common)
    elif n_constraints:
        front = torch.from_numpy(values) if len(values) else None
        function = acqf.qLogCEHVI(gpr_list=gprs[:n_objectives], Y_feasible=front, **common, **constrained)
    else:
        function = acqf.qLogEHVI(gpr_list=gprs, Y_train=torch.from_numpy(values), **common)
    gradients = [function.eval_acqf_with_grad(c)[1].tolist() for c in candidates] if space == "floats" else None
    return {
        "name": name,
        "is_categorical": is_categorical.tolist(),
        "x": x.tolist(),
        "running": running.tolist(),
        "processes": [
            {
                "y": y.tolist(),
                "inverse_squared_lengthscales": g.inverse_squared_lengthscales.tolist(),
                "kernel_scale": g.kernel_scale.item(),
                "noise_var": g.noise_var.item(),
                # Optuna seeds the processes one after another, the constraints after the objectives.
                "samples": sample_from_normal_sobol(n_running + 1, N_SAMPLES, seed + i).tolist(),
            }
            for i, (g, y) in enumerate(fitted)
        ],
        "n_objectives": n_objectives,
        "thresholds": limits,
        "candidates": candidates.tolist(),
        "acquisition": function.eval_acqf_no_grad(candidates).tolist(),
        "gradients": gradients,
    }


cases = [
    case("one objective", "floats", 1, 0, 2, 1),
    case("one objective, categories", "mixed", 1, 0, 3, 2),
    case("one objective, two constraints", "floats", 1, 2, 2, 3),
    case("one objective, nothing feasible", "floats", 1, 1, 2, 4, feasible=False),
    case("two objectives", "floats", 2, 0, 1, 5),
    case("two objectives, five running", "floats", 2, 0, 5, 6),
    case("three objectives, categories", "mixed", 3, 0, 2, 7),
    case("two objectives, a constraint", "floats", 2, 1, 3, 8),
    case("two objectives, two constraints, categories", "mixed", 2, 2, 2, 9),
    case("two objectives, nothing feasible", "floats", 2, 1, 2, 10, feasible=False),
]
print(json.dumps({"running_cases": cases}, indent=1))
