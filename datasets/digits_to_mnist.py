"""Trains a small CNN on Kiln's drawn digits alone and lets it read real MNIST digits.

    cargo run --release -p kiln-data --example export_digits -- /tmp/digits
    python datasets/digits_to_mnist.py /tmp/digits FOLDER_WITH_MNIST [EPOCHS] [THREADS]

Needs PyTorch and NumPy. Both folders hold MNIST-format files, plain or .gz.
"""

import gzip
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def read(folder, stem):
    path = Path(folder) / stem
    data = path.read_bytes() if path.exists() else gzip.open(f"{path}.gz").read()
    rank = data[3]
    shape = np.frombuffer(data, ">u4", rank, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def load(folder, split):
    images = torch.tensor(read(folder, f"{split}-images-idx3-ubyte")).float()[:, None]
    labels = torch.tensor(read(folder, f"{split}-labels-idx1-ubyte")).long()
    return (images / 255 - 0.1307) / 0.3081, labels


def block(channels_in, channels_out):
    conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)
    return [conv, nn.BatchNorm2d(channels_out), nn.ReLU(), nn.MaxPool2d(2)]


def accuracy(model, images, labels):
    model.eval()
    with torch.no_grad():
        found = torch.cat([model(part).argmax(1) for part in images.split(500)])
    return 100 * (found == labels).float().mean().item()


def main():
    digits, mnist = sys.argv[1:3]
    epochs = int(sys.argv[3]) if len(sys.argv) > 3 else 2
    torch.set_num_threads(int(sys.argv[4]) if len(sys.argv) > 4 else 1)
    images, labels = load(digits, "train")
    own, real = load(digits, "t10k"), load(mnist, "t10k")
    results = []
    for seed in range(3):
        torch.manual_seed(seed)
        head = [nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10)]
        model = nn.Sequential(*block(1, 32), *block(32, 64), *head)
        optimizer = torch.optim.Adam(model.parameters())
        batch, start = 128, time.time()
        steps = epochs * (len(images) // batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps + 1)
        for _ in range(epochs):
            model.train()
            order = torch.randperm(len(images))
            for i in range(0, len(images) - batch + 1, batch):
                part = order[i : i + batch]
                loss = F.cross_entropy(model(images[part]), labels[part])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        result = accuracy(model, *own), accuracy(model, *real)
        results.append(result)
        seconds = time.time() - start
        print(f"seed {seed}: {result[0]:.2f} % of {len(own[1])} drawn, "
              f"{result[1]:.2f} % of {len(real[1])} real digits, {seconds:.0f} s", flush=True)
    drawn, real_digits = np.mean(results, axis=0)
    print(f"mean: {drawn:.2f} % drawn, {real_digits:.2f} % real")


if __name__ == "__main__":
    main()
