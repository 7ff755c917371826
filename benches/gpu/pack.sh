#!/usr/bin/env bash
# Builds the release programs with the features wgpu and vulkan, strips them and packs them with all that a bare
# machine with an NVIDIA card needs: benches/gpu/pack.sh [DATA_DIR] -> target/gpu-pack.tar.xz
#
# DATA_DIR holds MNIST's four files; without it, run.sh trains on drawn digits only. FEATURES overrides the
# backends (default wgpu,vulkan,flex).
set -euo pipefail
cd "$(dirname "$0")/../.."
target="${CARGO_TARGET_DIR:-target}"
features="${FEATURES:-wgpu,vulkan,flex}"
out="$target/gpu-pack"

cargo build --release -p kiln-cli --no-default-features --features "$features"
cargo build --release -p kiln --example train_step --no-default-features --features "$features"
# The numeric tests, for every backend of the build.
tests=$(cargo test --release --no-run --message-format=json -p kiln-data -p kiln-train -p kiln-zoo --lib |
    python3 -c 'import json,sys
for line in sys.stdin:
    m = json.loads(line)
    if m.get("executable") and m.get("profile", {}).get("test"): print(m["target"]["name"], m["executable"])')

rm -rf "$out" && mkdir -p "$out/bin" "$out/tests"
cp "$target/release/kiln" "$target/release/examples/train_step" "$out/bin/"
while read -r name path; do cp "$path" "$out/tests/$name"; done <<<"$tests"
strip "$out"/bin/* "$out"/tests/*
cp benches/gpu/run.sh benches/train_step.py "$out/"
git rev-parse HEAD >"$out/commit"
[ -n "${1:-}" ] && cp -rL "$1" "$out/mnist"
# Vulkan's loader and what it needs; the driver itself belongs to the machine.
if command -v apt-get >/dev/null; then
    (mkdir -p "$out/deb" && cd "$out/deb" && apt-get download -q libvulkan1 libwayland-client0 >/dev/null) ||
        echo "no Debian packages of the Vulkan loader: the machine must have its own"
fi
tar -C "$target" -cJf "$target/gpu-pack.tar.xz" gpu-pack
ls -l "$target/gpu-pack.tar.xz"
