"""Reference values of torch.nn normalization layers.

Writes <file>.json for every group of cases in norms_cases.py. A step of a case has the input x, the upstream gradient g (what
is differentiated is sum(y * g)), output, gradients and running statistics after it, and a tolerance for each; a key ending in
64 is the same computed in f64 on the same f32 numbers, which is what to compare with where it is given.
    python gen_norms.py [output folder, default: this script's folder]
"""
import os
import sys
import warnings

import numpy as np
import torch
import torch.nn as nn

import norms_cases
from common import Arr, maxdiff, versions, write_cases

warnings.filterwarnings("ignore")


def make_x(spec, step):
    rng = np.random.default_rng([spec["seed"], 11, step])
    shape = spec["shape"]
    kind = spec["input"]
    z = rng.standard_normal(shape)
    if kind == "normal":  # per-channel shifted and scaled normals
        mean, std = spec["mean"], spec["std"]
        v = mean + std * z
        if spec["spread"]:
            c = shape[1] if len(shape) > 1 else 1
            s = [1] * len(shape)
            if len(shape) > 1:
                s[1] = c
            v = v * rng.uniform(0.5, 2.0, s) + rng.uniform(-1.0, 1.0, s)
    elif kind == "constant":
        v = np.full(shape, spec["mean"])
    elif kind == "constant_channel":  # channel 0 constant, the others normal
        v = z
        v[:, 0] = spec["mean"]
    elif kind == "alternating":  # +m, -m, +m ... over the flattened array, exactly zero mean
        v = spec["mean"] * (1.0 - 2.0 * (np.arange(z.size) % 2)).reshape(shape)
    else:
        raise ValueError(kind)
    return v.astype(np.float32)


def make_param(spec, name, shape, index):
    rng = np.random.default_rng([spec["seed"], 22, index])
    if name == "weight":
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return rng.uniform(-0.5, 0.5, shape).astype(np.float32)


def build(spec, dtype):
    layer = getattr(nn, spec["layer"])(*spec["args"], **spec["kwargs"])
    params = {}
    for index, (name, p) in enumerate(layer.named_parameters()):
        v = make_param(spec, name, tuple(p.shape), index)
        params[name] = v
        p.data = torch.from_numpy(v.copy())
    layer = layer.to(dtype)
    if spec["layer"] == "RMSNorm" and layer.eps is None:
        # eps=None means finfo(dtype of x).eps: keep the f32 value in the f64 run
        layer.eps = torch.finfo(torch.float32).eps
    return layer, params


def run(spec, dtype):
    layer, params = build(spec, dtype)
    steps = []
    for k, mode in enumerate(spec["modes"]):
        x32 = make_x(spec, k)
        g32 = np.random.default_rng([spec["seed"], 33, k]).standard_normal(spec["shape"]).astype(np.float32)
        layer.train(mode == "train")
        layer.zero_grad()
        step = {"mode": mode, "x": x32}
        x = torch.from_numpy(x32.copy()).to(dtype).requires_grad_(True)
        try:
            y = layer(x)
        except Exception as e:  # noqa: BLE001 - the reference raises: that is the recorded result
            step["error"] = "%s: %s" % (type(e).__name__, str(e).split("\n")[0])
            steps.append(step)
            continue
        y.backward(torch.from_numpy(g32).to(dtype))
        step["g"] = g32
        step["y"] = y.detach().numpy().copy()
        step["dx"] = x.grad.numpy().copy()
        for name, p in layer.named_parameters():
            step["d" + name] = p.grad.numpy().copy()
        for name, b in layer.named_buffers():
            if name == "num_batches_tracked" and any("error" in s for s in steps):
                continue  # torch counts the step that raised; not worth copying
            step[name] = int(b) if name == "num_batches_tracked" else b.numpy().copy()
        steps.append(step)
    return params, steps


def describe(layer):
    """Full configuration, every default resolved."""
    out = {}
    for k in ("num_features", "normalized_shape", "num_groups", "num_channels", "size", "alpha", "beta",
              "k", "eps", "momentum", "affine", "elementwise_affine", "track_running_stats"):
        if hasattr(layer, k):
            v = getattr(layer, k)
            out[k] = list(v) if isinstance(v, tuple) else v
    if hasattr(layer, "elementwise_affine") or hasattr(layer, "affine"):
        out["has_weight"] = getattr(layer, "weight", None) is not None
        out["has_bias"] = getattr(layer, "bias", None) is not None
    return out


def tolerance(spec, mode, key, ref64, err32):
    """Absolute tolerance for an f32 port compared with the f64 value; err32 is how inexact PyTorch's own f32 result is."""
    top = float(np.abs(np.asarray(ref64, dtype=np.float64)).max())
    relative = spec["adversarial"] and not 1e-15 < spec["std"] < 1e10  # values far away from 1
    if spec["id"].endswith("rms_offset") or (spec["adversarial"] and abs(spec["mean"]) > 1e10):
        relative = True
    tol = 1e-5 * (top if relative else max(1.0, top)) + 4.0 * err32
    if not spec["adversarial"]:
        return float("%.3g" % tol)
    if spec["input"].startswith("constant") or "single" in spec["id"]:
        # zero variance: one rounding of the mean is multiplied by 1 / sqrt(eps)
        tol += 1.5e-4 * max(1.0, abs(spec["mean"])) * {"y": 1.0, "dx": 1.0, "dweight": 20.0}.get(key, 0.0)
    elif spec["input"] == "normal" and abs(spec["mean"]) >= 1e4 and mode == "train" and spec["layer"] != "RMSNorm":
        # mean much larger than std: one rounding of the mean in f32 is already 5 % of std
        if key in ("y", "dx", "dweight"):
            tol = max(0.1 * top, 2.0 * err32)
    return float("%.3g" % tol)


def main(out):
    os.makedirs(out, exist_ok=True)
    for fname, specs in norms_cases.GROUPS.items():
        cases = []
        for spec in specs:
            config = describe(getattr(nn, spec["layer"])(*spec["args"], **spec["kwargs"]))
            params, s32 = run(spec, torch.float32)
            _, s64 = run(spec, torch.float64)
            wide = spec["adversarial"]
            steps = []
            for a, b in zip(s32, s64):
                step, err = {}, {}
                for k, v in a.items():
                    step[k] = v
                    if isinstance(v, np.ndarray) and k not in ("x", "g"):
                        err[k] = maxdiff(v, b[k])
                        if wide:
                            step[k + "64"] = Arr(b[k], digits=10)
                if err:
                    step["err32"] = err
                    step["tol"] = {k: tolerance(spec, a["mode"], k, b[k], e) for k, e in err.items()}
                steps.append(step)
            cases.append({"id": spec["id"], "layer": spec["layer"], "adversarial": wide, "note": spec["note"],
                          "config": config, "params": params, "steps": steps})
        write_cases(os.path.join(out, fname + ".json"), cases, generated_with=versions())
        print(fname, len(cases))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__)))
