"""Gradient clipping in Kiln, in Burn and in PyTorch, in one run.

    cargo build --release -p kiln-clip --example clip_speed
    python benches/clipping.py [--rounds 5] [--program PATH] [--device D --torch-device cuda]

For ResNet-50's parameters and for 2,000 of 64 values each: `kiln_clip::clip_grad_norm`, Burn's clipping of each parameter by
itself, and `torch.nn.utils.clip_grad_norm_` with and without `foreach`. Programs run in turns, `--rounds` times each; the
median of the rounds' medians is compared, and the best of all, which other programs on the machine disturb least.
PyTorch uses as many threads as Kiln sees processors.
"""
import argparse
import json
import os
import statistics
import subprocess
import time

import torch

# The allocator keeps freed memory, as the program kiln tells it to.
ENV = {**os.environ, "MIMALLOC_PURGE_DELAY": "-1"}


def resnet50():
    shapes = []

    def layer(o, i, k):
        shapes.extend([(o, i, k, k), (o,), (o,)])

    layer(64, 3, 7)
    inputs = 64
    for width, blocks in [(64, 3), (128, 4), (256, 6), (512, 3)]:
        for block in range(blocks):
            layer(width, inputs, 1)
            layer(width, width, 3)
            layer(width * 4, width, 1)
            if block == 0:
                layer(width * 4, inputs, 1)
            inputs = width * 4
    shapes.extend([(1000, 2048), (1000,)])
    assert len(shapes) == 161
    return shapes


def torch_ms(shapes, foreach, repeats, device):
    parameters = [torch.nn.Parameter(torch.zeros(shape, device=device)) for shape in shapes]
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    times = []
    for _ in range(repeats + 3):
        wait()
        start = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=foreach)
        wait()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[3:]), min(times[3:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="flex")
    parser.add_argument("--torch-device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=30)
    target = os.environ.get("CARGO_TARGET_DIR", "target")
    parser.add_argument("--program", default=os.path.join(target, "release", "examples", "clip_speed"))
    args = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))

    cases = {"resnet50": resnet50(), "small2000": [(64,)] * 2000}
    rounds = {name: [] for name in [*cases, "cnn_step"]}
    for _ in range(args.rounds):
        command = [args.program, "--device", args.device, "--repeats", str(args.repeats)]
        kiln = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=ENV).stdout)
        for name, shapes in cases.items():
            entry = kiln[name]
            entry["foreach_ms"], entry["foreach_best_ms"] = torch_ms(shapes, True, args.repeats, args.torch_device)
            entry["loop_ms"], entry["loop_best_ms"] = torch_ms(shapes, False, args.repeats, args.torch_device)
        for name in rounds:
            rounds[name].append(kiln[name])

    def middle(name, key):
        return statistics.median(entry[key + "_ms"] for entry in rounds[name])

    def best(name, key):
        return min(entry[key + "_best_ms"] for entry in rounds[name])

    print("torch %s, %d threads, %d rounds of %d" % (torch.__version__, torch.get_num_threads(), args.rounds, args.repeats))
    for name in cases:
        print("%-34s %10s %6s %10s %6s" % (name, "median ms", "ratio", "best ms", "ratio"))
        for label, key in [("Kiln, global norm", "kiln"), ("Burn, each parameter by itself", "burn"),
                           ("PyTorch, foreach", "foreach"), ("PyTorch, one by one", "loop")]:
            row = [(of(name, key), of(name, key) / of(name, "foreach")) for of in (middle, best)]
            print("  %-32s %10.3f %6.2f %10.3f %6.2f" % (label, *row[0], *row[1]))
    print("training step of the CNN")
    for label, of in [("median", middle), ("best", best)]:
        without, clipped, clip = (of("cnn_step", key) for key in ("without", "with", "clip"))
        print("  %-8s %.2f ms without, %.2f ms with clipping (%+.1f %%); the clipping itself %.3f ms (%.2f %%)"
              % (label, without, clipped, (clipped / without - 1) * 100, clip, clip / without * 100))


if __name__ == "__main__":
    main()
