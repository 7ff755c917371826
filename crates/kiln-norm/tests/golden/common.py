"""Writes cases as JSON with the shortest text that reads back to the same float."""
import json
import math

import numpy as np
import torch

torch.set_num_threads(1)


def _num(v, f32):
    v32 = np.float32(v) if f32 else None
    f = float(v)
    if math.isnan(f):
        return '"NaN"'
    if math.isinf(f):
        return '"Infinity"' if f > 0 else '"-Infinity"'
    s = str(v32) if f32 else repr(f)
    if s.endswith(".0"):
        s = s[:-2]
    return s


class Arr:
    """Array to be written as {"shape": [...], "data": [...]}; digits=None: shortest text that
    reads back to the same float of the array's own type."""

    def __init__(self, a, digits=None):
        if isinstance(a, torch.Tensor):
            a = a.detach().cpu().numpy()
        self.a = np.asarray(a)
        self.digits = digits

    def text(self):
        a = self.a
        flat = a.reshape(-1)
        if a.dtype.kind in "iub":
            data = ",".join(str(int(v)) for v in flat)
        elif self.digits is not None:
            out = []
            for v in flat:
                f = float(v)
                out.append(_num(f, False) if not math.isfinite(f) else "%.*g" % (self.digits, f))
            data = ",".join(out)
        else:
            f32 = a.dtype == np.float32
            data = ",".join(_num(v, f32) for v in flat)
        return '{"shape":[%s],"data":[%s]}' % (",".join(str(s) for s in a.shape), data)


def text(obj):
    if isinstance(obj, Arr):
        return obj.text()
    if isinstance(obj, (np.ndarray, torch.Tensor)):
        return Arr(obj).text()
    if isinstance(obj, dict):
        return "{" + ",".join(json.dumps(str(k)) + ":" + text(v) for k, v in obj.items()) + "}"
    if isinstance(obj, (list, tuple)):
        return "[" + ",".join(text(v) for v in obj) + "]"
    if isinstance(obj, (bool, np.bool_)):
        return "true" if obj else "false"
    if obj is None:
        return "null"
    if isinstance(obj, np.float32):
        return _num(obj, True)
    if isinstance(obj, (float, np.floating)):
        return _num(obj, False)
    if isinstance(obj, (int, np.integer)):
        return str(int(obj))
    return json.dumps(str(obj))


def write_cases(path, cases, **head):
    """{"head...": ..., "cases": [ one case per line ]}"""
    with open(path, "w", encoding="utf-8", newline="\n") as f:
        f.write("{")
        for k, v in head.items():
            f.write(json.dumps(k) + ":" + text(v) + ",\n")
        f.write('"cases":[\n')
        f.write(",\n".join(text(c) for c in cases))
        f.write("\n]}\n")
    json.load(open(path, encoding="utf-8"))


def maxdiff(a, b):
    """max |a-b| over entries where both are finite; None when a non-finite entry differs."""
    a = np.asarray(a, dtype=np.float64).reshape(-1)
    b = np.asarray(b, dtype=np.float64).reshape(-1)
    fin = np.isfinite(a) & np.isfinite(b)
    same = fin | (np.isnan(a) & np.isnan(b)) | (a == b)
    if not same.all():
        return None
    if not fin.any():
        return 0.0
    return float("%.3g" % np.abs(a[fin] - b[fin]).max())


def versions():
    import torchvision
    return "torch %s, torchvision %s, numpy %s (CPU, 1 thread)" % (
        torch.__version__.split("+")[0], torchvision.__version__.split("+")[0], np.__version__)
