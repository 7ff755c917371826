"""Renews the entries "scalar_sort" of parzen.json and tpe_acquisition.json: what Optuna calculates from the observations
in these files where NumPy sorts without vector instructions.

    NPY_DISABLE_CPU_FEATURES="X86_V3 X86_V4 AVX2 AVX512F AVX512_SKX" python scalar_sort.py

Made with Optuna 5.0.0, Python 3.11, numpy 2.4.
"""

import json
import warnings
from pathlib import Path

import numpy as np
from optuna.distributions import json_to_distribution
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator, _ParzenEstimatorParameters
from optuna.samplers._tpe.sampler import default_weights

warnings.simplefilter("ignore")
ORDER = [0, 15, 12, 18, 6, 9, 3, 4, 7, 8, 10, 11, 2, 13, 14, 1, 16, 17, 5, 19]
FOLDER = Path(__file__).parent.parent


def numbers(values):
    return np.array([float(value) for value in values])


def written(values):
    return [v if np.isfinite(v) else {np.inf: "inf", -np.inf: "-inf"}.get(v, "nan") for v in map(float, values)]


def estimator(space, observations, options, weights):
    parameters = _ParzenEstimatorParameters(
        prior_weight=options.get("prior_weight", 1.0),
        consider_magic_clip=options.get("consider_magic_clip", True),
        consider_endpoints=options.get("consider_endpoints", False),
        weights=default_weights,
        multivariate=True,
    )
    return _ParzenEstimator(observations, space, parameters, weights)


def of(space):
    return {name: json_to_distribution(json.dumps(d)) for name, d in space.items()}


def parzen(case):
    space = of(case["space"])
    observations = {name: numbers(values) for name, values in case["observations_internal"].items()}
    weights = case["predetermined_weights"]
    made = estimator(space, observations, case["options"], None if weights is None else numbers(weights))
    points = {name: numbers(values) for name, values in case["points_internal"].items()}
    parts = zip(space, made._mixture_distribution.distributions)
    sigmas = {name: written(part.sigma) for name, part in parts if hasattr(part, "sigma")}
    return {"sigmas": sigmas, "log_pdf": written(made.log_pdf(points))}


def acquisition(case):
    space = of(case["space"])
    trials = {trial["number"]: trial for trial in case["trials"]}

    def row(trial):
        params = dict(trial["params"])
        text = "".join(
            trial["system_attrs"].get(f"tpe:relative_params:{i}", "") for i in range(len(trial["system_attrs"]))
        )
        if trial["state"] == "RUNNING" and text:
            params = {**json.loads(text), **params}
        if any(name not in params for name in space):
            return None
        return [d.to_internal_repr(params[name]) for name, d in space.items()]

    points = {name: numbers(values) for name, values in case["points_internal"].items()}
    made = {}
    for key, part in (("log_l", "below"), ("log_g", "above")):
        rows = [r for r in (row(trials[number]) for number in case[part]) if r is not None]
        columns = {name: numbers([r[i] for r in rows]) for i, name in enumerate(space)}
        weights = numbers(case[f"{part}_weights"])
        assert len(weights) == len(rows) + 1, (case["name"], part, len(weights), len(rows))
        prior = case["options"].get("prior_weight", 1.0)
        made[key] = written(estimator(space, columns, case["options"], weights[:-1] / weights[-1] * prior).log_pdf(points))
    return made


def main():
    order = [int(i) for i in np.argsort(np.array([float(i * i % 3) for i in range(20)]))]
    assert order == ORDER, "NumPy sorts with vector instructions here; set NPY_DISABLE_CPU_FEATURES"
    for name, renew in (("parzen.json", parzen), ("tpe_acquisition.json", acquisition)):
        path = FOLDER / name
        text = path.read_text()
        content = json.loads(text)
        for case in content["cases"] if isinstance(content, dict) else content:
            if "scalar_sort" in case:
                case["scalar_sort"] = renew(case)
        path.write_text(json.dumps(content, separators=(",", ":") if ", " not in text[:200] else (", ", ": ")) + "\n")


if __name__ == "__main__":
    main()
