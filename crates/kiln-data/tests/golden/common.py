"""Writes cases as JSON with the shortest text that reads back to the same float."""
import json
import math

import numpy as np


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


def _array(a):
    if a.dtype.kind in "iub":
        data = ",".join(str(int(v)) for v in a.reshape(-1))
    else:
        data = ",".join(_num(v, a.dtype == np.float32) for v in a.reshape(-1))
    return '{"shape":[%s],"data":[%s]}' % (",".join(str(s) for s in a.shape), data)


def text(obj):
    if isinstance(obj, np.ndarray):
        return _array(obj)
    if isinstance(obj, dict):
        return "{" + ",".join(json.dumps(str(k)) + ":" + text(v) for k, v in obj.items()) + "}"
    if isinstance(obj, (list, tuple)):
        return "[" + ",".join(text(v) for v in obj) + "]"
    if isinstance(obj, (bool, np.bool_)):
        return "true" if obj else "false"
    if obj is None:
        return "null"
    if isinstance(obj, (float, np.floating)):
        return _num(obj, isinstance(obj, np.float32))
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
