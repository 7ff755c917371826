"""A training step of Kiln's CNN beside the same network in PyTorch, in one run.

    cargo build --release -p kiln --example train_step
    python benches/train_step.py [--device flex] [--batch 64] [--steps 100] [--rounds 5]

Both are run in turns, `--rounds` times each, so that whatever else the machine does hits both; the
median is compared. PyTorch uses as many threads as Kiln sees processors. With `--torch-device cuda`
PyTorch runs on the GPU, eager and compiled.
"""
import argparse
import json
import os
import statistics
import subprocess
import time

import torch
from torch import nn

# The allocator keeps freed memory, as the program kiln tells it to.
ENV = {**os.environ, "MIMALLOC_PURGE_DELAY": "-1"}


class Cnn(nn.Module):
    """kiln_zoo::Cnn, layer by layer."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(64 * 7 * 7, 128)
        self.dropout = nn.Dropout(0.25)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = torch.relu(self.pool(self.bn1(self.conv1(x))))
        x = torch.relu(self.pool(self.bn2(self.conv2(x))))
        x = torch.relu(self.fc1(x.flatten(1)))
        return self.fc2(self.dropout(x))


def pytorch(device, batch, steps, compiled):
    torch.manual_seed(42)
    n = max(batch * 8, 8192)
    images = torch.randint(0, 256, (n, 784), dtype=torch.uint8, device=device)
    labels = torch.randint(0, 10, (n,), device=device)
    model = Cnn().to(device)
    optimizer = torch.optim.Adam(model.parameters())
    forward = torch.compile(model) if compiled else model
    order = torch.randperm(n, device=device)

    def step(i):
        start = i * batch % (n - batch + 1)
        index = order[start : start + batch]
        x = (images[index].float() / 255 - 0.1307) / 0.3081
        loss = nn.functional.cross_entropy(forward(x.view(-1, 1, 28, 28)), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    for i in range(max(steps // 5, 10)):
        step(i)
    sync = torch.cuda.synchronize if device == "cuda" else lambda: None
    sync()
    start = time.perf_counter()
    for i in range(steps):
        loss = step(i)
    loss.item()
    sync()
    return (time.perf_counter() - start) / steps * 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="flex", help="Kiln's device")
    parser.add_argument("--torch-device", default="cpu")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    target = os.environ.get("CARGO_TARGET_DIR", "target")
    parser.add_argument("--program", default=f"{target}/release/examples/train_step")
    args = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))

    kinds = [("eager", False)] + ([("compiled", True)] if args.torch_device == "cuda" else [])
    times = {name: [] for name, _ in kinds}
    ours, data = [], []
    for _ in range(args.rounds):
        command = [args.program, "--device", args.device, "--batch", str(args.batch), "--steps", str(args.steps)]
        result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=ENV).stdout)
        ours.append(result["step_ms"])
        data.append(result["data_ms"])
        for name, compiled in kinds:
            times[name].append(pytorch(args.torch_device, args.batch, args.steps, compiled))
    step = statistics.median(ours)
    print(f"batch {args.batch}, {args.steps} steps, median of {args.rounds} rounds")
    print(f"kiln     {step:8.2f} ms a step  ({result['device']}, {result['backend']})")
    print(f"         {statistics.median(data):8.2f} ms of it to form the batch ({statistics.median(data) / step:.1%})")
    for name, each in times.items():
        other = statistics.median(each)
        print(f"pytorch  {other:8.2f} ms a step  ({torch.__version__}, {name})  kiln takes {step / other:.2f} times as long")


if __name__ == "__main__":
    main()
