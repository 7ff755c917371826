"""Checkpoints as training programs leave them, and what must be taken from each.

    python make.py        (PyTorch 2.15, NumPy 2.4)

Writes the files and expected.json beside itself. All hold the weights of one tiny network, in different company; `averaged`
weights differ from the others by 1.
"""

import argparse
import json
import pickle
import random
import sys
import types
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

HERE = Path(__file__).parent


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(5)
        self.fc = nn.Linear(5, 4)

    def forward(self, x):
        return self.fc(torch.relu(self.bn(self.conv(x))).mean(dim=(2, 3)))


class Settings(dict):
    """A dict of a class of its own, as many programs keep their settings in."""


# As in a package that the reader of the file does not have.
Settings.__module__ = "somebody"
sys.modules["somebody"] = types.ModuleType("somebody")
sys.modules["somebody"].Settings = Settings


def formula(model):
    state = OrderedDict()
    for number, (name, value) in enumerate(model.state_dict().items()):
        if value.is_floating_point():
            values = torch.arange(value.numel(), dtype=torch.float32).view(value.shape)
            value = (values * 7 % 11 - 5) / 16 + (1 if name == "bn.running_var" else 0)
        else:
            value = torch.tensor(number)
        state[name] = value.clone()
    return state


torch.manual_seed(7)
model = Tiny()
state = formula(model)
model.load_state_dict(state)
# Gives the state dict its _metadata.
state = OrderedDict(model.state_dict())
averaged = OrderedDict((k, v + 1 if v.is_floating_point() else v) for k, v in state.items())
momentum = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
model(torch.randn(2, 3, 7, 6)).sum().backward()
model.load_state_dict(state)
momentum.step()
model.load_state_dict(state)
scheduler = torch.optim.lr_scheduler.MultiStepLR(momentum, [30, 60, 60])


def below(prefix, state):
    return OrderedDict((prefix + k, v) for k, v in state.items())


def as_parameters(state, attribute=False):
    parameters = OrderedDict()
    for name, value in state.items():
        if value.is_floating_point():
            value = nn.Parameter(value)
            if attribute:
                value.weight_decay = 0.5
        parameters[name] = value
    return parameters


def tagged(value):
    value = value.clone()
    value.tag = "a tensor with an attribute"
    return value


quantized = torch.quantize_per_tensor(torch.arange(4.0), 0.5, 2, torch.quint8)
by_channel = torch.quantize_per_channel(torch.ones(2, 3), torch.ones(2), torch.zeros(2), 0, torch.qint8)
odd_tensors = {
    "coo": torch.eye(3).to_sparse(),
    "csr": torch.eye(3).to_sparse_csr(),
    "quantized": quantized,
    "by_channel": by_channel,
    "uint16": torch.tensor([1, 65535], dtype=torch.uint16),
    "float8": torch.tensor([1.0, -2.0]).to(torch.float8_e4m3fn),
    "complex": torch.tensor([1 + 2j]),
    "meta": torch.empty(3, device="meta"),
    "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "conj": torch.tensor([1 + 2j]).conj(),
    "negative": torch.tensor([1 + 2j]).conj().imag,
    "deep": torch.zeros((1,) * 20),
}
plain_values = {
    "set": {1, 2},
    "frozenset": frozenset({"a"}),
    "bytes": b"\xff\x00raw",
    "bytearray": bytearray(b"\xff\x00raw"),
    "complex": 1 + 2j,
    "layout": torch.strided,
    "dtype": torch.float8_e4m3fn,
    "size": torch.Size([1, 2]),
    "device": torch.device("cpu"),
    "counter": Counter("abracadabra"),
    "long": 2**80,
    "surrogate": "\udcff",
    "path": Path("somewhere"),
    "default": defaultdict(list, a=[1]),
    "slice": slice(1, 2),
    "function": len,
    "settings": Settings(lr=0.1),
}
args = argparse.Namespace(model="resnet18", lr=0.1, device=torch.device("cpu"), data_path=Path("data"))
average = AveragedModel(model)
average.load_state_dict({"n_averaged": torch.tensor(3), **below("module.", averaged)})
lightning = {
    "epoch": 3,
    "global_step": 12,
    "pytorch-lightning_version": "2.5.0",
    "state_dict": OrderedDict(
        [
            ("criterion.weight", torch.ones(4)),
            *below("model.", state).items(),
            ("train_accuracy.tp", torch.tensor(3)),
            *below("ema_model.", averaged).items(),
        ]
    ),
    "loops": {"fit_loop": {"state_dict": {}, "epoch_loop.batch_progress": {"total": {"ready": 12}}}},
    "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}},
    "optimizer_states": [momentum.state_dict()],
    "lr_schedulers": [scheduler.state_dict()],
    "hparams_name": "kwargs",
    "hyper_parameters": Settings(lr=0.1, layers=[1, 2]),
}
torchvision = {
    "model": state,
    "optimizer": momentum.state_dict(),
    "lr_scheduler": scheduler.state_dict(),
    "epoch": 7,
    "args": args,
    "model_ema": average.state_dict(),
    "scaler": {"scale": 65536.0, "_growth_tracker": 0},
}
names = ["pear", "fig", "apple", "plum"]
numbers = {name: i for i, name in enumerate(names)}

# The file, what is in it, and how it is read: under a key, with what left aside, which other keys there are.
files = {
    "counter.pth": ({"model": state, "lr_scheduler": scheduler.state_dict()}, {"key": "model"}),
    "values.pth": ({"state_dict": state, **plain_values}, {"key": "state_dict"}),
    "tensors.pth": ({"state_dict": state, **odd_tensors}, {"key": "state_dict"}),
    "tensors_among.pth": ({**state, **odd_tensors}, {"beside": ["uint16", "float8"]}),
    "torchvision.pth": (torchvision, {"key": "model", "others": ["model_ema"]}),
    "torchvision_legacy.pth": (torchvision, {"key": "model", "others": ["model_ema"]}),
    "numpy.pth": (
        {
            "net": state,
            "best": np.float64(0.5),
            "history": np.arange(3.0),
            "numpy_rng": np.random.get_state(),
            "rng": random.getstate(),
            "torch_rng": torch.get_rng_state(),
        },
        {"key": "net"},
    ),
    "lightning.ckpt": (
        lightning,
        {"key": "state_dict", "beside": ["criterion.weight", "train_accuracy.tp"], "others": ["ema_model"]},
    ),
    "averaged.pth": (average.state_dict(), {"beside": ["n_averaged"], "averaged": True}),
    "nested.pth": ({"model": {"state_dict": state, "config": Settings(a=1)}, "epoch": 1}, {"key": "model.state_dict"}),
    "compiled.pth": (torch.compile(model).state_dict(), {}),
    "data_parallel.pth": (nn.DataParallel(model).state_dict(), {}),
    "compiled_inside.pth": (below("module.model._orig_mod.", state), {}),
    "timm.pth": (
        {"epoch": 2, "arch": "tiny", "state_dict": state, "optimizer": momentum.state_dict(), "state_dict_ema": averaged},
        {"key": "state_dict", "others": ["state_dict_ema"]},
    ),
    "tuple.pth": ((state, momentum.state_dict()), {"key": "0"}),
    "default_dict.pth": (defaultdict(list, state), {}),
    "attributes.pth": (as_parameters(state, attribute=True), {}),
    "tags.pth": (OrderedDict((k, tagged(v)) for k, v in state.items()), {}),
    "legacy_tensors.pth": ({"weights": state, **odd_tensors}, {"key": "weights"}),
    "protocol1.pth": ({"model": state, "lr_scheduler": scheduler.state_dict()}, {"key": "model"}),
    "unknown_key.pth": ({"generator": state, "discriminator": {"conv.weight": torch.ones(2, 3)}}, {"key": "generator"}),
    "twice.pth": ({"student": averaged, "teacher": state}, {"ask": "teacher", "key": "teacher"}),
    "twice_flat.pth": (
        OrderedDict([*below("encoder_q.", averaged).items(), *below("encoder_k.", state).items(), ("queue", torch.ones(2, 2))]),
        {"ask": "encoder_k", "key": "encoder_k"},
    ),
    "class_to_idx.pth": ({"state_dict": state, "class_to_idx": numbers}, {"key": "state_dict", "classes": names}),
    "idx_to_class.pth": (
        {"state_dict": state, "extra": {"idx_to_class": {i: name for name, i in numbers.items()}}},
        {"key": "state_dict", "classes": names},
    ),
    "id2label.pth": (
        {"state_dict": state, "config": {"id2label": {str(i): name for name, i in numbers.items()}}},
        {"key": "state_dict", "classes": names},
    ),
    "categories.pth": ({"model": state, "meta": {"categories": tuple(names)}}, {"key": "model", "classes": names}),
    "names_in_args.pth": (
        {"model": state, "args": argparse.Namespace(class_names=names)},
        {"key": "model", "classes": names},
    ),
}
options = {
    "torchvision_legacy.pth": {"_use_new_zipfile_serialization": False},
    "legacy_tensors.pth": {"_use_new_zipfile_serialization": False},
    "protocol1.pth": {"pickle_protocol": 1},
}
cases = []
for name, (content, how) in files.items():
    if name.startswith("legacy"):
        # The format before 1.6 knows neither of them.
        content = {k: v for k, v in content.items() if k not in ("meta", "nested")}
    torch.save(content, HERE / name, **options.get(name, {}))
    cases.append({"file": name, **how})

# What cannot be read where it is needed.
torch.save({**state, "conv.weight": torch.quantize_per_tensor(state["conv.weight"], 0.1, 0, torch.qint8)}, HERE / "bad_quantized.pth")
torch.save({**state, "fc.weight": state["fc.weight"].to_sparse()}, HERE / "bad_sparse.pth")
torch.save({**state, "bn.bias": np.zeros(5)}, HERE / "bad_object.pth")
torch.save(model, HERE / "bad_module.pth")
torch.save({"epoch": 1, "model": model, "optimizer": momentum.state_dict()}, HERE / "bad_module_in_dict.pth")
torch.jit.script(model).save(str(HERE / "bad_torchscript.pt"))
(HERE / "bad_pickle.pkl").write_bytes(pickle.dumps({"a": 1}))

# Every value of the floats of eight bits, and integers without a sign.
floats = ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"]
every = torch.arange(256, dtype=torch.uint8)
eights = {name: every.view(getattr(torch, name)) for name in floats}
ints = {
    name: torch.tensor([0, 1, 2**bits - 1], dtype=getattr(torch, name))
    for name, bits in [("uint16", 16), ("uint32", 32), ("uint64", 64)]
}
torch.save({**eights, **ints}, HERE / "numbers.pth")


def text(value):
    return [repr(x) for x in value.tolist()]


model.eval()
x = torch.randn(2, 3, 7, 6)
with torch.no_grad():
    output = model.double()(x.double()).flatten().tolist()
    model.float().load_state_dict(averaged)
    averaged_output = model.double()(x.double()).flatten().tolist()
expected = {
    "input": x.flatten().tolist(),
    "output": output,
    "averaged": averaged_output,
    "cases": cases,
    "numbers": {
        **{name: text(value.float()) for name, value in eights.items()},
        **{name: [str(x) for x in value.tolist()] for name, value in ints.items()},
    },
}
(HERE / "expected.json").write_text(json.dumps(expected) + "\n")
