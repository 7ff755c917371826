"""Loads safetensors into a PyTorch network with strict=True and prints its output for an input of ones.

    python load_strict.py FILE (tiny | NAME OF A MODEL OF ../golden/zoo/zoo_nets.py OR TORCHVISION) CLASSES SIZE
"""

import json
import sys
from pathlib import Path

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
    sys.path.append(str(Path(__file__).parent.parent / "golden" / "zoo"))
    import zoo_nets

    others = {
        "tiny": lambda: Tiny(classes),
        "unet": lambda: zoo_nets.UNet(3, classes, False),
        "unet-bilinear": lambda: zoo_nets.UNet(3, classes, True),
        "densenet-bc-40-12": lambda: zoo_nets.CifarDenseNet(12, 40, 0.5, classes),
        "small-resnet": lambda: zoo_nets.SmallResNet([2, 2, 2], classes),
    }
    if name in others:
        net = others[name]()
    else:
        import torchvision

        net = torchvision.models.get_model(name, weights=None, num_classes=classes)
    net.load_state_dict(load_file(path), strict=True)
    with torch.no_grad():
        print(json.dumps(net.eval()(torch.ones(1, 3, size, size)).flatten().tolist()))


main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
