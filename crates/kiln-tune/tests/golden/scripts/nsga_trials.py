"""Whole studies of Optuna's NSGA-II and NSGA-III from a seed: `python nsga_trials.py > ../studies/nsga_trials.json`.

Made with Optuna 5.0.0.
"""

import json
import warnings

import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.simplefilter("ignore")
nsga2 = optuna.samplers.nsgaii

CROSSOVERS = {
    "uniform": nsga2.UniformCrossover(),
    "blxalpha": nsga2.BLXAlphaCrossover(),
    "sbx": nsga2.SBXCrossover(),
    "vsbx": nsga2.VSBXCrossover(),
    "spx": nsga2.SPXCrossover(),
    "polynomial": nsga2.UniformCrossover(),
    "nsga3": nsga2.UniformCrossover(),
}


def objective(trial, constrained):
    x = trial.suggest_float("x", 0, 1)
    lr = trial.suggest_float("lr", 1e-3, 1, log=True)
    n = trial.suggest_int("n", 1, 20)
    kind = trial.suggest_categorical("kind", ["a", "b", "c"])
    s = trial.suggest_float("s", 0, 1, step=0.25)
    if constrained:
        trial.set_constraint("c", x + s - 1.2)
    return x + 0.05 * n, (1 - x) ** 2 + lr + "abc".index(kind) + s


studies = []
for name, crossover in CROSSOVERS.items():
    constrained = name == "sbx"
    make = optuna.samplers.NSGAIIISampler if name == "nsga3" else optuna.samplers.NSGAIISampler
    sampler = make(
        seed=5,
        population_size=8,
        crossover=crossover,
        mutation=nsga2.PolynomialMutation() if name == "polynomial" else None,
    )
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    study.optimize(lambda t: objective(t, constrained), n_trials=48)
    rows = [[t.distributions[k].to_internal_repr(v) for k, v in t.params.items()] for t in study.trials]
    studies.append({"crossover": name, "constrained": constrained, "params": rows})
print(json.dumps(studies))
