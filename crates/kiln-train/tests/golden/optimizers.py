"""Writes optimizers.json: parameters after each of five steps of PyTorch's optimizers.

    pip install torch && python optimizers.py

The gradients are given, so that nothing but the update rule is tested. `config` holds what differs from PyTorch's defaults.
"""
import json
import pathlib
import torch

START = [0.5, -1.0, 2.0, 1e-3]
GRADS = [[0.1, -0.2, 3.0, 1e-6], [0.3, 0.1, -1.0, 2e-6], [-0.2, 0.05, 0.5, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, -1e-4]]
CASES = [
    ("SGD", {}), ("SGD", {"lr": 0.1}), ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05}),
    ("Adam", {}), ("Adam", {"lr": 0.1, "weight_decay": 0.05}), ("Adam", {"lr": 0.1, "betas": [0.5, 0.9], "eps": 1e-3}),
    ("AdamW", {}), ("AdamW", {"lr": 0.1, "weight_decay": 0.2}), ("AdamW", {"lr": 0.1, "weight_decay": 0.0}),
    ("RMSprop", {}), ("RMSprop", {"lr": 0.1, "alpha": 0.9, "momentum": 0.8}),
    ("RMSprop", {"lr": 0.1, "centered": True, "weight_decay": 0.05}),
    ("RMSprop", {"lr": 0.1, "centered": True, "momentum": 0.5, "eps": 1e-4}),
]

cases = []
for name, config in CASES:
    w = torch.tensor(START, requires_grad=True)
    optimizer = getattr(torch.optim, name)([w], **config)
    steps = []
    for grad in GRADS:
        w.grad = torch.tensor(grad)
        optimizer.step()
        steps.append({"grad": grad, "param": w.tolist()})
    cases.append({"optimizer": name, "config": config, "steps": steps})
out = {"torch": torch.__version__, "problem": {"start": START}, "cases": cases}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(out, indent=1) + "\n")
