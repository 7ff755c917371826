#!/usr/bin/env bash
# Builds the release programs for every backend and packs them, stripped, with all that a bare machine with an NVIDIA
# card needs: benches/gpu/pack.sh [DATA_DIR] -> target/gpu-pack.tar.xz
#
# DATA_DIR holds MNIST's four files; without it, run.sh trains on drawn digits only. FEATURES adds features of the
# program to its defaults: vulkan if it is not set, none if it is empty (what the other commands of this
# repository build, for a machine without a card).
set -euo pipefail
cd "$(dirname "$0")/../.."
target="${CARGO_TARGET_DIR:-target}"
features="${FEATURES-vulkan}"
out="$target/gpu-pack"
rm -rf "$out" && mkdir -p "$out/bin" "$out/tests"

# One set of features for all: with --workspace, Burn is built once.
flags=(--release --workspace)
[ -n "$features" ] && flags+=(--features "kiln-cli/$features,kiln/$features")
cargo build "${flags[@]}" --bins --examples
cp "$target/release/kiln" "$target/release/agreement" "$out/bin/"
for example in train_step norm_step clip_speed zoo_speed; do cp "$target/release/examples/$example" "$out/bin/"; done

# Numeric tests that read no file.
cargo test "${flags[@]}" --no-run --message-format=json --test norm --test cnn --test multi_tensor --lib |
    python3 -c 'import json,sys
for line in sys.stdin:
    m = json.loads(line)
    name = m.get("target", {}).get("name", "")
    kept = name in ("norm", "cnn", "multi_tensor", "kiln_data", "kiln_train")
    if kept and m.get("executable") and m.get("profile", {}).get("test"): print(name, m["executable"])' |
    while read -r name path; do cp "$path" "$out/tests/$name"; done
strip "$out"/bin/* "$out"/tests/*

cp benches/gpu/run.sh "$out/"
cp benches/*.py "$out/bin/"
for crate in kiln-norm kiln-clip kiln-data kiln-train kiln-zoo; do
    mkdir -p "$out/golden/$crate" && cp crates/$crate/tests/golden/*.json "$out/golden/$crate/" 2>/dev/null || true
done
cp crates/kiln-zoo/tests/golden/zoo/*.json crates/kiln-zoo/tests/golden/zoo/*.py "$out/golden/kiln-zoo/"
git rev-parse HEAD >"$out/commit"
[ -n "${1:-}" ] && cp -rL "$1" "$out/mnist"
# Vulkan's loader and what it needs; the driver itself belongs to the machine.
if command -v apt-get >/dev/null; then
    (mkdir -p "$out/deb" && cd "$out/deb" && apt-get download -q libvulkan1 libwayland-client0 >/dev/null) ||
        echo "no Debian packages of the Vulkan loader: the machine must have its own"
fi
# The programs have most of their code in common: a dictionary that reaches from one to the next halves the archive.
tar -C "$target" -cf - gpu-pack | xz -T1 --lzma2=preset=2,dict=512MiB >"$target/gpu-pack.tar.xz"
ls -l "$target/gpu-pack.tar.xz"
