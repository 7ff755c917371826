"""Loads safetensors into a PyTorch network with strict=True and prints its output for an input of ones.

    python load_strict.py FILE (tiny | NAME OF A TORCHVISION MODEL) CLASSES SIZE
"""

import json
import sys

import torch
from safetensors.torch import load_file


class Tiny(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.bn = torch.nn.BatchNorm2d(5)
        self.fc = torch.nn.Linear(5, classes)

    def forward(self, x):
        return self.fc(torch.relu(self.bn(self.conv(x))).mean(dim=(2, 3)))


def main(path, name, classes, size):
    if name == "tiny":
        net = Tiny(classes)
    else:
        import torchvision

        net = torchvision.models.get_model(name, weights=None, num_classes=classes)
    net.load_state_dict(load_file(path), strict=True)
    with torch.no_grad():
        print(json.dumps(net.eval()(torch.ones(1, 3, size, size)).flatten().tolist()))


main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
