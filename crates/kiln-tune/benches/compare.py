"""Runs kiln-tune, Optuna and the crate `optimizer` one after another and compares them.

    python benches/compare.py speed            # ms per trial by number of finished trials
    python benches/compare.py quality          # best value over 20 seeds, Mann-Whitney test

Needs optuna 5 and scipy (`pip install optuna scipy`) and cargo. Run it on a machine that does nothing else.
"""

import argparse
import json
import math
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np
import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)
HERE = pathlib.Path(__file__).resolve().parent
CRATE = HERE.parent


def lines(command, cwd=CRATE):
    out = subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def kiln(bench, *args):
    return lines(["cargo", "bench", "-q", "-p", "kiln-tune", "--bench", bench, "--", *args])


# --- speed ---------------------------------------------------------------------------------------------------------

N_PARAMS = 10
SPEED_SAMPLERS = ["random", "tpe", "cmaes"]


def optuna_speed(sampler_name, n):
    samplers = {
        "random": optuna.samplers.RandomSampler,
        "tpe": optuna.samplers.TPESampler,
        "cmaes": optuna.samplers.CmaEsSampler,
    }
    sampler = samplers[sampler_name](seed=1)
    study = optuna.create_study(sampler=sampler)
    import random

    random.seed(7)
    dist = optuna.distributions.FloatDistribution(-5, 5)
    for _ in range(n):
        params = {f"x{i}": random.uniform(-5, 5) for i in range(N_PARAMS)}
        study.add_trial(
            optuna.create_trial(
                params=params,
                distributions={name: dist for name in params},
                value=sum(x * x for x in params.values()),
            )
        )

    def objective(trial):
        return sum(trial.suggest_float(f"x{i}", -5, 5) ** 2 for i in range(N_PARAMS))

    study.optimize(objective, n_trials=1)
    n_timed = 30 if n <= 1000 else 5
    start = time.perf_counter()
    study.optimize(objective, n_trials=n_timed)
    return (time.perf_counter() - start) / n_timed * 1e3


def speed(sizes, samplers):
    ours = {(row["sampler"], row["n_trials"]): row for row in kiln("speed", *samplers, *map(str, sizes))}
    peer_dir = HERE / "peer-optimizer"
    peer_sizes = [str(n) for n in sizes if n <= 1000]
    run_peer = ["cargo", "run", "-q", "--release", "--", *peer_sizes]
    peer = lines(run_peer, cwd=peer_dir) if "tpe" in samplers else []
    peer = {row["n_trials"]: row["ms_per_trial"] for row in peer}
    print("| sampler | finished trials | kiln-tune ms | Optuna ms | ratio | optimizer ms | ratio |")
    print("|---|---|---|---|---|---|---|")
    for sampler in samplers:
        for n in sizes:
            mine = ours[sampler, n]["ms_per_trial"]
            theirs = optuna_speed(sampler, n)
            other = peer.get(n) if sampler == "tpe" else None
            other = f"{other:.3f} | {other / mine:.1f}x" if other else "- | -"
            print(f"| {sampler} | {n} | {mine:.4f} | {theirs:.3f} | {theirs / mine:.0f}x | {other} |", flush=True)
    print()
    for row in ours.values():
        print(json.dumps(row))


# --- quality -------------------------------------------------------------------------------------------------------

C = [1.0, 1.2, 3.0, 3.2]
A = [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
P = [
    [1312, 1696, 5569, 124, 8283, 5886],
    [2329, 4135, 8307, 3736, 1004, 9991],
    [2348, 1451, 3522, 2883, 3047, 6650],
    [4047, 8828, 8732, 5743, 1091, 381],
]


def floats(trial, n, low, high):
    return [trial.suggest_float(f"x{i}", low, high) for i in range(n)]


def sphere5(trial):
    return sum(x * x for x in floats(trial, 5, -4, 6))


def rosenbrock4(trial):
    x = floats(trial, 4, -5, 10)
    return sum(100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2 for i in range(3))


def branin2(trial):
    x, y = trial.suggest_float("x0", -5, 10), trial.suggest_float("x1", 0, 15)
    square = (y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6) ** 2
    return square + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def hartmann6(trial):
    x = floats(trial, 6, 0, 1)
    return -sum(C[k] * math.exp(-sum(A[k][j] * (x[j] - P[k][j] * 1e-4) ** 2 for j in range(6))) for k in range(4))


def ackley5(trial):
    x = floats(trial, 5, -20, 30)
    root = math.sqrt(sum(v * v for v in x) / 5)
    waves = sum(math.cos(2 * math.pi * v) for v in x) / 5
    return -20 * math.exp(-0.2 * root) - math.exp(waves) + 20 + math.e


def mixed(trial):
    shared = trial.suggest_float("shared", -2, 2)
    algo = trial.suggest_categorical("algo", ["svm", "forest", "boost"])
    if algo == "svm":
        c = math.log10(trial.suggest_float("svm_C", 1e-3, 1e3, log=True))
        if trial.suggest_categorical("svm_kernel", ["linear", "rbf"]) == "linear":
            v = 0.30 + 0.02 * c * c
        else:
            gamma = math.log10(trial.suggest_float("svm_gamma", 1e-4, 10, log=True))
            v = 0.12 + 0.02 * (c - 1) ** 2 + 0.03 * (gamma + 1.5) ** 2
    elif algo == "forest":
        depth = trial.suggest_int("forest_depth", 2, 32)
        trees = math.log10(trial.suggest_int("forest_trees", 10, 500, log=True))
        v = 0.15 + 0.001 * (depth - 18) ** 2 + 0.05 * (trees - 2.3) ** 2
    else:
        lr = math.log10(trial.suggest_float("boost_lr", 1e-4, 1, log=True))
        depth = trial.suggest_int("boost_depth", 1, 12)
        rounds = trial.suggest_int("boost_rounds", 50, 1000, step=50)
        v = 0.08 + 0.04 * (lr + 1.2) ** 2 + 0.004 * (depth - 6) ** 2 + 0.02 * ((rounds - 600) / 200) ** 2
    return v + 0.1 * (shared - 0.3) ** 2


def rastrigin4(trial):
    return sum(x * x - 10 * math.cos(2 * math.pi * x) + 10 for x in floats(trial, 4, -3, 5))


def levy6(trial):
    w = [1 + (x - 1) / 4 for x in floats(trial, 6, -8, 10)]
    inner = sum((v - 1) ** 2 * (1 + 10 * math.sin(math.pi * v + 1) ** 2) for v in w[:5])
    last = (w[5] - 1) ** 2 * (1 + math.sin(2 * math.pi * w[5]) ** 2)
    return math.sin(math.pi * w[0]) ** 2 + inner + last


def styblinski5(trial):
    return sum(x**4 - 16 * x * x + 5 * x for x in floats(trial, 5, -5, 5)) / 2


def network(trial):
    lr = math.log10(trial.suggest_float("lr", 1e-5, 1, log=True))
    decay = math.log10(trial.suggest_float("decay", 1e-6, 1e-1, log=True))
    dropout = trial.suggest_float("dropout", 0, 0.8, step=0.1)
    layers = trial.suggest_int("layers", 1, 8)
    width = math.log2(trial.suggest_int("width", 8, 1024, log=True))
    batch = trial.suggest_int("batch", 16, 256, step=16)
    activation = trial.suggest_categorical("activation", ["relu", "gelu", "tanh", "elu"])
    norm = trial.suggest_categorical("norm", [True, False])
    best_lr = -2.5 - 0.2 * layers / 8 + (0.6 if norm else 0)
    v = 0.05 * (lr - best_lr) ** 2 + 0.01 * (decay + 4) ** 2 + 0.5 * (dropout - 0.3) ** 2
    v += 0.01 * (layers - 4) ** 2 + 0.01 * (width - 7) ** 2 + 0.02 * ((batch - 96) / 64) ** 2
    return v + {"relu": 0.02, "gelu": 0, "tanh": 0.12, "elu": 0.05}[activation] + (0 if norm else 0.05)


def pipeline(trial):
    n = trial.suggest_int("n", 1, 3)
    value = 0.1 * abs(n - 2)
    for i in range(n):
        target = 0.3 + 0.2 * i
        kind = trial.suggest_categorical(f"kind{i}", ["linear", "spline", "tree"])
        if kind == "linear":
            step = 0.3 + 0.1 * abs(trial.suggest_float(f"w{i}", -1, 1) - target)
        elif kind == "spline":
            knots = trial.suggest_int(f"knots{i}", 2, 20)
            smooth = math.log10(trial.suggest_float(f"smooth{i}", 1e-3, 10, log=True))
            step = 0.1 + 0.001 * (knots - 7) ** 2 + 0.05 * (smooth + target) ** 2
        else:
            step = 0.2 + 0.01 * abs(trial.suggest_int(f"depth{i}", 1, 16) - 5)
        value += step / n
    return value


def zdt(trial, front):
    x = floats(trial, 5, 0, 1)
    g = 1 + 9 * sum(x[1:]) / 4
    return x[0], g * front(x[0], g)


def zdt1(trial):
    return zdt(trial, lambda x, g: 1 - math.sqrt(x / g))


def zdt3(trial):
    return zdt(trial, lambda x, g: 1 - math.sqrt(x / g) - x / g * math.sin(10 * math.pi * x))


def dtlz2(trial):
    x = floats(trial, 6, 0, 1)
    g = 1 + sum((v - 0.5) ** 2 for v in x[2:])
    a, b = x[0] * math.pi / 2, x[1] * math.pi / 2
    return g * math.cos(a) * math.cos(b), g * math.cos(a) * math.sin(b), g * math.sin(a)


SINGLE = (sphere5, rosenbrock4, branin2, hartmann6, ackley5, mixed, rastrigin4, levy6, styblinski5, network, pipeline)
FUNCTIONS = {f.__name__: f for f in (*SINGLE, zdt1, zdt3, dtlz2)}
# Reference points of the hypervolume.
REFERENCES = {"zdt1": [1.1, 5.0], "zdt3": [1.1, 5.0], "dtlz2": [2.0, 2.0, 2.0]}
# One sampler per line: several people add to this list.
SAMPLERS = {
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "tpe_default": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "tpe_univariate": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=False),
    "tpe_multivariate_group": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True),
    "cmaes": lambda seed: optuna.samplers.CmaEsSampler(seed=seed),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=20),
    "nsga3": lambda seed: optuna.samplers.NSGAIIISampler(seed=seed, population_size=20),
}


def minus_hypervolume(study, reference):
    from optuna._hypervolume import compute_hypervolume

    front = np.array([trial.values for trial in study.best_trials])
    return -compute_hypervolume(front[np.all(front <= reference, axis=1)], np.array(reference))


def optuna_quality(sampler, function, seeds, steps):
    reference = REFERENCES.get(function)
    after = {n: [] for n in steps}
    for seed in seeds:
        directions = ["minimize"] * (len(reference) if reference else 1)
        study = optuna.create_study(sampler=SAMPLERS[sampler](seed), directions=directions)
        for n in steps:
            study.optimize(FUNCTIONS[function], n_trials=n - len(study.trials))
            after[n].append(minus_hypervolume(study, reference) if reference else study.best_value)
    return after


def quality(samplers, functions, n_seeds):
    from scipy.stats import mannwhitneyu

    # Other seeds for Optuna, because the same ones give the same trials.
    rows = kiln("quality", *samplers, *functions, "--seeds", str(n_seeds))
    steps = {}
    for row in rows:
        steps.setdefault((row["sampler"], row["function"]), []).append(row["n_trials"])
    cache = {}
    worse = 0
    print("| sampler | function | trials | kiln-tune median | Optuna median | p (kiln-tune is worse) |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        key = row["sampler"], row["function"]
        if key not in cache:
            cache[key] = optuna_quality(*key, range(1000, 1000 + n_seeds), steps[key])
        theirs = cache[key][row["n_trials"]]
        p = mannwhitneyu(row["values"], theirs, alternative="greater").pvalue
        worse += p < 0.01
        print(
            f"| {key[0]} | {key[1]} | {row['n_trials']} | {statistics.median(row['values']):.4g} "
            f"| {statistics.median(theirs):.4g} | {p:.2f}{' WORSE' if p < 0.01 else ''} |",
            flush=True,
        )
    return worse


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["speed", "quality"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--samplers", nargs="+", choices=[*SPEED_SAMPLERS, *SAMPLERS])
    parser.add_argument("--functions", nargs="+", choices=list(FUNCTIONS), default=[])
    parser.add_argument("--seeds", type=int, default=20)
    args = parser.parse_args()
    if args.what == "speed":
        speed(args.sizes, args.samplers or SPEED_SAMPLERS)
    elif quality(args.samplers or list(SAMPLERS), args.functions, args.seeds) > 0:
        sys.exit("kiln-tune is worse than Optuna at 1 % somewhere")


if __name__ == "__main__":
    main()
