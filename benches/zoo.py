"""Networks of the zoo beside PyTorch and torchvision: inference, training step, peak memory of the process.

    cargo build --release -p kiln-zoo --example zoo_speed
    python benches/zoo.py [--steps 5] [--rounds 2] [--only resnet18] [--device D --torch-device cuda]

Every measurement is a process of its own; the two sides take turns, and the table has the best of all rounds.
"""
import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

CASES = [("resnet18", "infer", 224, 1), ("resnet50", "infer", 224, 1), ("densenet121", "infer", 224, 1), ("unet", "infer", 128, 1),
         ("resnet18", "train", 64, 8), ("resnet50", "train", 64, 8), ("densenet121", "train", 64, 8), ("unet", "train", 64, 2),
         ("densenet121", "train", 128, 8), ("densenet121", "train-saving", 128, 8)]

# The allocator keeps freed memory, as the program kiln tells it to.
ENV = {**os.environ, "MIMALLOC_PURGE_DELAY": "-1"}


def pytorch(name, mode, size, batch, steps, device, nets):
    import resource
    import time
    import torch
    import torch.nn.functional as F
    import torchvision
    sys.path.append(nets)
    import zoo_nets
    saving = {"memory_efficient": True} if mode == "train-saving" else {}
    net = zoo_nets.UNet(3, 10, False) if name == "unet" else torchvision.models.get_model(name, weights=None, num_classes=10, **saving)
    net.train(mode != "infer")
    net.to(device)
    x = torch.randn(batch, 3, size, size, device=device)

    def step():
        if mode == "infer":
            with torch.no_grad():
                return net(x).sum().item()
        net.zero_grad()
        y = net(x)
        loss = F.cross_entropy(y, torch.zeros((batch,) + y.shape[2:], dtype=torch.long, device=device))
        loss.backward()
        return loss.item()

    step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    ms = (time.perf_counter() - start) * 1000 / steps
    print(json.dumps({"ms": ms, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--program", default="target/release/examples/zoo_speed")
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--only", default="")
    p.add_argument("--device", default="flex")
    p.add_argument("--torch-device", default="cpu")
    p.add_argument("--nets", default=str(Path(__file__).parent.parent / "crates/kiln-zoo/tests/golden/zoo"),
                   help="the folder of zoo_nets.py, which has the U-Net")
    p.add_argument("--pytorch", nargs=5, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.pytorch:
        name, mode, *numbers = args.pytorch
        return pytorch(name, mode, *map(int, numbers), args.torch_device, args.nets)
    print("| network | what | images | Kiln ms | PyTorch ms | ratio | Kiln peak MiB | PyTorch peak MiB |\n|---|---|---|---|---|---|---|---|", flush=True)
    for name, mode, size, batch in CASES:
        if args.only not in name:
            continue
        ours = [args.program, name, "--mode", mode, "--size", str(size), "--batch", str(batch), "--steps", str(args.steps),
                "--device", args.device]
        theirs = [sys.executable, __file__, "--pytorch", name, mode, str(size), str(batch), str(args.steps),
                  "--torch-device", args.torch_device, "--nets", args.nets]
        best = [None, None]
        for _ in range(args.rounds):
            for side, command in enumerate([ours, theirs]):
                out = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=ENV).stdout)
                if best[side] is None or out["ms"] < best[side]["ms"]:
                    best[side] = out
        a, b = best
        print(f"| {name} | {mode} | {batch}x3x{size}x{size} | {a['ms']:.1f} | {b['ms']:.1f} | {a['ms'] / b['ms']:.2f} | "
              f"{a['peak_mib']} | {b['peak_mib']} |", flush=True)


main()
