"""Weight files of a tiny network in every layout that Kiln reads, and what must be read from them.

    python make.py        (PyTorch 2.15, safetensors 0.8)

Writes the files and expected.json beside itself.
"""

import json
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent


class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.bn = torch.nn.BatchNorm2d(5)
        self.fc = torch.nn.Linear(5, 4)

    def forward(self, x):
        return self.fc(torch.relu(self.bn(self.conv(x))).mean(dim=(2, 3)))


torch.manual_seed(7)
model = Tiny()
for step in range(3):
    model(torch.randn(4, 3, 8, 8))  # running statistics that are not the initial ones
model.eval()
state = model.state_dict()
x = torch.randn(2, 3, 7, 6)


def cast(dtype):
    return OrderedDict((k, v.to(dtype) if v.is_floating_point() else v) for k, v in state.items())


optimizer = torch.optim.Adam(model.parameters())
model(x).sum().backward()
optimizer.step()
state = OrderedDict((k, v.clone()) for k, v in model.state_dict().items())

whole = torch.arange(400, dtype=torch.float32) / 400
views = OrderedDict(state)
views["fc.weight"] = whole[7:27].view(5, 4).t()  # strided, with an offset, over a shared storage
views["fc.bias"] = whole[:8:2]

files = {
    "plain.pth": state,
    "legacy.pth": state,
    "protocol4.pth": state,
    "protocol5.pth": state,
    "checkpoint.pth": {"epoch": 7, "model_state_dict": state, "optimizer_state_dict": optimizer.state_dict(), "loss": 0.5},
    "parameters.pth": {"net": {k: torch.nn.Parameter(v) if v.is_floating_point() else v for k, v in state.items()}},
    "module.pth": OrderedDict(("module._orig_mod." + k, v) for k, v in state.items()),
    "mask_values.pth": {**state, "mask_values": [0, 255]},
    "views.pth": views,
    "f64.pth": cast(torch.float64),
    "bf16.pth": cast(torch.bfloat16),
    "f16.safetensors": cast(torch.float16),
    "plain.safetensors": state,
}
options = {
    "legacy.pth": {"_use_new_zipfile_serialization": False},
    "protocol4.pth": {"pickle_protocol": 4},
    "protocol5.pth": {"pickle_protocol": 5},
}

expected = []
for name, content in files.items():
    if name.endswith(".safetensors"):
        save_file(dict(content), HERE / name)
    else:
        torch.save(content, HERE / name, **options.get(name, {}))
    weights = content.get("model_state_dict", content.get("net", content))
    weights = {k.removeprefix("module._orig_mod."): v for k, v in weights.items() if isinstance(v, torch.Tensor)}
    wide = OrderedDict((k, v.detach().float() if v.is_floating_point() else v) for k, v in weights.items())
    net = Tiny()
    net.load_state_dict(wide)
    with torch.no_grad():
        output = net.eval().double()(x.double())
    expected.append({
        "file": name,
        "state": {k: {"shape": list(v.shape), "data": v.flatten().tolist()} for k, v in wide.items()},
        "output": output.flatten().tolist(),
    })

(HERE / "expected.json").write_text(json.dumps({"input": x.flatten().tolist(), "files": expected}) + "\n")
