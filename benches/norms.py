"""The normalization layers beside burn-nn's and PyTorch's, in one run.

    cargo build --release -p kiln-norm --example norm_step
    python benches/norms.py [--device flex] [--seconds 1] [--rounds 3] [--only LAYER]

Kiln, burn-nn and PyTorch are run in turns, `--rounds` times, so that whatever else the machine does hits all; the smallest of
the rounds' medians is compared. `forward` is a layer in training; `both` is forward and backward of
`layer(x).sum()` with gradients for input and parameters. PyTorch uses as many threads as Kiln sees processors; with
`--torch-device cuda` it runs on the GPU. `floor` is the time that the bytes which must be moved take at the bandwidth of a
plain copy: two times the input forward (read, write), five times for both (read x; write y; read x and the gradient; write dx).
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


def layer_of(name, shape, device):
    c = shape[1]
    groups = 32 if c % 32 == 0 and c > 32 else 8
    make = {
        "BatchNorm": lambda: nn.BatchNorm2d(c),
        "GroupNorm": lambda: nn.GroupNorm(groups, c),
        "InstanceNorm": lambda: nn.InstanceNorm2d(c, affine=True),
        "LayerNorm": lambda: nn.LayerNorm(shape[-1]),
        "RMSNorm": lambda: nn.RMSNorm(shape[-1]),
    }
    return make[name]().to(device)


def median(run, seconds, device):
    sync = torch.cuda.synchronize if device == "cuda" else lambda: None
    times, begin = [], time.perf_counter()
    run()
    while len(times) < 5 or time.perf_counter() - begin < seconds:
        sync()
        start = time.perf_counter()
        run()
        sync()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def pytorch(name, shape, seconds, device):
    torch.manual_seed(0)
    layer = layer_of(name, shape, device)
    leaf = (torch.randn(shape, device=device) * 2 + 0.5).requires_grad_(True)

    def forward():
        layer(leaf)

    def both():
        leaf.grad = None
        layer.zero_grad(set_to_none=True)
        layer(leaf).sum().backward()

    return {"forward": median(forward, seconds, device), "both": median(both, seconds, device)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="flex")
    parser.add_argument("--torch-device", default="cpu")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--program", default="target/release/examples/norm_step")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    command = [args.program, "--device", args.device, "--seconds", str(args.seconds)]
    if args.only:
        command += ["--only", args.only]
    best = {}

    def see(key, whose, times):
        for what, ms in times.items():
            old = best.setdefault(key, {}).setdefault(whose, {}).get(what, float("inf"))
            best[key][whose][what] = min(old, ms)

    for _ in range(args.rounds):
        for line in subprocess.run(command, check=True, capture_output=True, text=True, env=ENV).stdout.splitlines():
            row = json.loads(line)
            key = (row["layer"], tuple(row["shape"]))
            see(key, row["whose"], {k: row[k] for k in ("forward", "both")})
            see(key, "copy", {"copy": row["copy"]})
            if row["whose"] == "kiln":
                see(key, "torch", pytorch(row["layer"], row["shape"], args.seconds, args.torch_device))
    print(f"PyTorch {torch.__version__}, {args.threads} threads, {args.device} against {args.torch_device}; milliseconds")
    print("| layer | shape | | Kiln | burn-nn | PyTorch | burn-nn / Kiln | Kiln / PyTorch | floor / Kiln |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (layer, shape), row in best.items():
        for what, passes in (("forward", 2), ("both", 5)):
            kiln, burn, torch_ms = (row[w][what] for w in ("kiln", "burn-nn", "torch"))
            floor = row["copy"]["copy"] * passes / 2
            print(
                f"| {layer} | {list(shape)} | {what} | {kiln:.2f} | {burn:.2f} | {torch_ms:.2f} | {burn / kiln:.1f} "
                f"| {kiln / torch_ms:.2f} | {floor / kiln:.2f} |"
            )


if __name__ == "__main__":
    main()
