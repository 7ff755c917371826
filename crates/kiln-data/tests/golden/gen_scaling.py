"""Reference values of scikit-learn feature scalers.

Writes scaling.json from scaling_cases.py. Needs scikit-learn.
    python gen_scaling.py [output folder, default: this script's folder]
"""
import os
import sys
import warnings
import zlib

import numpy as np
import sklearn
from sklearn import preprocessing

import scaling_cases
from common import write_cases

warnings.filterwarnings("ignore")

STATE = {
    "MinMaxScaler": ["min_", "scale_", "data_min_", "data_max_", "data_range_", "n_samples_seen_"],
    "StandardScaler": ["mean_", "var_", "scale_", "n_samples_seen_"],
    "RobustScaler": ["center_", "scale_"],
    "MaxAbsScaler": ["scale_", "max_abs_", "n_samples_seen_"],
    "Normalizer": [],
}


def column(kind, rows, rng):
    z = rng.standard_normal(rows)
    if kind == "normal":
        return 2.0 + 3.0 * z
    if kind == "small":
        return 1e-6 * z
    if kind == "large":
        return 1e6 * (1.0 + z)
    if kind == "integers":
        return np.floor(5.0 * z)
    if kind == "offset":  # mean 1e8, std 1e-1
        return 1e8 + 0.1 * z
    if kind == "tiny_range":  # differs in the last digits only: counted as constant
        return 1.0 + 4e-16 * z
    if kind == "below_eps":  # range about 1e-16, not constant
        return 1e-16 * z
    if kind == "below_f32_eps":  # range about 3e-7
        return 1e-7 * z
    if kind == "positive":
        return np.abs(z) + 0.5
    if kind == "negative":
        return -np.abs(z) - 0.5
    if kind == "nan":
        z = 1.0 - 2.0 * z
        z[rng.integers(0, rows)] = np.nan
        z[rows // 2] = np.nan
        return z
    if kind == "all_nan":
        return np.full(rows, np.nan)
    if kind == "mostly_equal":  # quartiles coincide
        z[: rows - 1] = 3.0
        return z
    if isinstance(kind, (int, float)):  # constant column
        return np.full(rows, float(kind))
    raise ValueError(kind)


def matrix(columns, rows, seed):
    rng = np.random.default_rng(seed)
    return np.stack([column(k, rows, rng) for k in columns], axis=1)


def state_of(scaler, name):
    out = {}
    for k in STATE[name]:
        v = getattr(scaler, k, None)
        if v is None:
            out[k] = None
        elif np.ndim(v) == 0:
            out[k] = int(v) if k == "n_samples_seen_" else float(v)
        else:
            out[k] = np.asarray(v)
    return out


def run(spec):
    name = spec["scaler"]
    dtype = np.float32 if spec["dtype"] == "f32" else np.float64
    scaler = getattr(preprocessing, name)(**spec["kwargs"])
    seed = zlib.crc32(spec["id"].encode())
    out = {"id": spec["id"], "scaler": name, "note": spec.get("note", ""), "dtype": spec["dtype"],
           "exotic": spec.get("exotic", False), "config": {k: list(v) if isinstance(v, tuple) else v
                                                           for k, v in scaler.get_params().items() if k != "copy"}}
    chunks = []
    if spec["chunks"]:
        for k, rows in enumerate(spec["chunks"]):
            x = matrix(spec["columns"], rows, [seed, k]).astype(dtype)
            if "values" in spec:
                x = np.asarray(spec["values"][k], dtype=dtype)
            scaler.partial_fit(x)
            chunks.append({"x": x, "state": state_of(scaler, name)})
        out["partial_fit"] = chunks
    else:
        x = matrix(spec["columns"], spec["rows"], [seed, 0]).astype(dtype)
        if "values" in spec:
            x = np.asarray(spec["values"], dtype=dtype)
        scaler.fit(x)
        out["fit"] = {"x": x, "state": state_of(scaler, name)}
        out["fit"]["transformed"] = scaler.transform(x)
    test_cols = spec.get("test_columns", spec["columns"])
    t = matrix(test_cols, 4, [seed, 99]).astype(dtype) if "test" not in spec else np.asarray(spec["test"], dtype=dtype)
    y = scaler.transform(t)
    test = {"x": t, "transformed": y}
    if hasattr(scaler, "inverse_transform"):
        test["inverse"] = scaler.inverse_transform(y)
    out["test"] = test
    return out


def main(out):
    cases = [run(s) for s in scaling_cases.CASES]
    write_cases(os.path.join(out, "scaling.json"), cases,
                generated_with="scikit-learn %s, numpy %s" % (sklearn.__version__, np.__version__))
    print("scaling", len(cases))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__)))
