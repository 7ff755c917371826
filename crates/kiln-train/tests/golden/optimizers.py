"""Writes optimizers.json: parameters after each of five steps of PyTorch's optimizers.

    pip install torch && python optimizers.py

The gradients are given, so that nothing but the update rule is tested.
"""
import json
import pathlib
import torch

START = [0.5, -1.0, 2.0, 1e-3]
GRADS = [[0.1, -0.2, 3.0, 1e-6], [0.3, 0.1, -1.0, 2e-6], [-0.2, 0.05, 0.5, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, -1e-4]]
CASES = [
    ("sgd", {}), ("sgd", {"lr": 0.1}), ("sgd", {"lr": 0.1, "momentum": 0.9}),
    ("sgd", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.05}),
    ("sgd", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05}),
    ("adam", {}), ("adam", {"lr": 0.1, "weight_decay": 0.05}), ("adam", {"lr": 0.1, "betas": [0.5, 0.9], "eps": 1e-3}),
    ("adamw", {}), ("adamw", {"lr": 0.1, "weight_decay": 0.2}), ("adamw", {"lr": 0.1, "weight_decay": 0.0}),
    ("rmsprop", {}), ("rmsprop", {"lr": 0.1, "alpha": 0.9, "momentum": 0.8}),
    ("rmsprop", {"lr": 0.1, "centered": True, "weight_decay": 0.05}),
    ("rmsprop", {"lr": 0.1, "centered": True, "momentum": 0.5, "eps": 1e-4}),
]
CLASS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}

cases = []
for name, config in CASES:
    w = torch.tensor(START, requires_grad=True)
    optimizer = CLASS[name]([w], **config)
    steps = []
    for grad in GRADS:
        w.grad = torch.tensor(grad)
        optimizer.step()
        steps.append(w.tolist())
    cases.append({"name": name, "config": config, "steps": steps})
out = {"torch": torch.__version__, "start": START, "grads": GRADS, "cases": cases}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(out, indent=1) + "\n")
