"""The classic first study, by Kiln and by PyTorch with Optuna, one after the other on the same cores and the same data.

    cargo build --release
    python benches/tune_mnist.py --data-dir FOLDER_WITH_MNIST [--trials 40] [--jobs 1]

An MLP of 1 to 3 layers with 4 to 128 units and dropout 0.2 to 0.5 each, Adam, RMSprop or SGD, learning rate 1e-5 to 1e-1 on a log
scale, batches of 128, 10 epochs of 30 batches, TPE and the median pruner, both with their defaults and a study in an SQLite
file. Prints trials a minute and the best validation accuracy of each, as JSON. The Python side is Optuna's own PyTorch
example with the data on the CPU as tensors, which is the fastest way to feed it. Kiln's trials write their run's folder and model;
Optuna's keep nothing.
"""
import argparse
import gzip
import json
import os
import pathlib
import subprocess
import tempfile
import time

import numpy as np
import optuna
import torch
from torch import nn

BATCH, EPOCHS, STEPS = 128, 10, 30


def read(folder, name):
    path = next(p for p in pathlib.Path(folder).iterdir() if p.name.startswith(name))
    raw = gzip.open(path).read() if path.suffix == ".gz" else path.read_bytes()
    return np.frombuffer(raw, np.uint8, offset=16 if "images" in name else 8)


def load(folder):
    images = torch.tensor(read(folder, "train-images").reshape(-1, 784).astype("float32") / 255)
    labels = torch.tensor(read(folder, "train-labels").astype("int64"))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    valid = round(len(images) * 0.1)
    mean, std = images[valid:].mean(), images[valid:].std()
    images = (images - mean) / std
    return images[valid:], labels[valid:], images[:valid], labels[:valid]


def objective(trial, data):
    train_x, train_y, valid_x, valid_y = data
    layers, size = [], 784
    for i in range(trial.suggest_int("n_layers", 1, 3)):
        units = trial.suggest_int(f"n_units_l{i}", 4, 128)
        layers += [nn.Linear(size, units), nn.ReLU(), nn.Dropout(trial.suggest_float(f"dropout_l{i}", 0.2, 0.5))]
        size = units
    model = nn.Sequential(*layers, nn.Linear(size, 10))
    name = trial.suggest_categorical("optimizer", ["Adam", "RMSprop", "SGD"])
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=trial.suggest_float("lr", 1e-5, 1e-1, log=True))
    accuracy = 0.0
    for epoch in range(EPOCHS):
        model.train()
        order = torch.randperm(len(train_x))
        for step in range(STEPS):
            index = order[step * BATCH : (step + 1) * BATCH]
            loss = nn.functional.cross_entropy(model(train_x[index]), train_y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            accuracy = (model(valid_x).argmax(1) == valid_y).float().mean().item()
        trial.report(accuracy, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned()
    return accuracy


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--kiln", default="target/release/kiln")
    args = parser.parse_args()
    here = pathlib.Path(__file__).resolve().parent.parent / "examples/tune-mnist"
    torch.set_num_threads(os.cpu_count())
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [os.path.abspath(args.kiln), "tune", "--recipe", here / "mnist.toml", "--space", here / "space.toml"]
        command += ["--study", "kiln", "--storage", f"sqlite:///{folder}/kiln.db", "--trials", str(args.trials), "--seed", "0"]
        command += ["--jobs", str(args.jobs), "--device", "flex", "--data", "mnist", "--data-dir", os.path.abspath(args.data_dir)]
        command += ["--set", "data.valid_fraction=0.1", "--quiet", "--json"]
        done = subprocess.run(command, cwd=folder, capture_output=True, check=True, text=True)
        kiln = time.perf_counter() - start
        ours = json.loads(done.stdout)

        start = time.perf_counter()
        data = load(args.data_dir)
        study = optuna.create_study(
            direction="maximize", storage=f"sqlite:///{folder}/optuna.db", sampler=optuna.samplers.TPESampler(seed=0)
        )
        study.optimize(lambda trial: objective(trial, data), n_trials=args.trials, n_jobs=args.jobs)
        theirs = time.perf_counter() - start
    states = [trial.state.name for trial in study.trials]
    print(json.dumps({
        "trials": args.trials,
        "jobs": args.jobs,
        "cores": os.cpu_count(),
        "kiln": {"seconds": round(kiln, 1), "trials_per_minute": round(60 * args.trials / kiln, 1),
                 "best": ours["best_value"], "pruned": ours["pruned"], "failed": ours["failed"]},
        "pytorch_optuna": {"seconds": round(theirs, 1), "trials_per_minute": round(60 * args.trials / theirs, 1),
                           "best": study.best_value, "pruned": states.count("PRUNED"), "failed": states.count("FAIL")},
        "ratio_of_time": round(kiln / theirs, 3),
    }, indent=1))


if __name__ == "__main__":
    main()
