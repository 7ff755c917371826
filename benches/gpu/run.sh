#!/usr/bin/env bash
# Runs on the machine with the card, in the unpacked folder of pack.sh: ./run.sh [OUT_DIR]
# Correctness first, then speed beside the PyTorch that is installed there. Writes OUT_DIR/results.md, and every
# program's output beside it. With DEVICE=flex it runs the CPU path, for a machine without a card.
set -uo pipefail
cd "$(dirname "$0")"
out="${1:-results}"
device="${DEVICE:-auto}"
sizes="${BATCHES:-64 512 4096}"
limit="${LIMIT:-240}"
mkdir -p "$out"
for deb in deb/*.deb; do [ -e "$deb" ] && dpkg -x "$deb" / && ldconfig; done 2>/dev/null
chmod +x bin/* tests/*
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}" KILN_DATA_DIR="$PWD/cache"

{
    echo "# Kiln on $(date -u +%F), commit $(cat commit)"
    echo
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo "no NVIDIA card"
    echo '```'
    bin/kiln devices
    echo '```'
} >"$out/results.md" 2>"$out/devices.log"

echo "## Correctness" >>"$out/results.md"
for test in tests/*; do
    name=$(basename "$test")
    if timeout "$limit" "$test" --test-threads=1 >"$out/$name.log" 2>&1; then
        echo "- $name: $(grep -o '[0-9]* passed' "$out/$name.log" | head -1)" >>"$out/results.md"
    else
        echo "- $name: **failed**, see $name.log" >>"$out/results.md"
    fi
done

echo "## Training" >>"$out/results.md"
echo "| data | batch | test accuracy | images/s | seconds |" >>"$out/results.md"
echo "|---|---|---|---|---|" >>"$out/results.md"
train() { # data, batch, further arguments
    local data=$1 batch=$2
    shift 2
    local file="$out/train-$data-$batch"
    if timeout "$limit" bin/kiln train --device "$device" --batch-size "$batch" --progress plain --json --offline \
        --run-dir "$file-run" "$@" >"$file.json" 2>"$file.log"; then
        python3 - "$data" "$batch" "$file.json" >>"$out/results.md" <<'PY'
import json, sys
data, batch, file = sys.argv[1:]
s = json.load(open(file))
print(f"| {data} | {batch} | {s['test_accuracy']:.2%} | {s['samples_per_second']:.0f} | {s['train_seconds']:.1f} |")
PY
    else
        echo "| $data | $batch | failed, see $(basename "$file").log | | |" >>"$out/results.md"
    fi
    rm -rf "$file-run"
}
for batch in $sizes; do
    [ -d mnist ] && train mnist "$batch" --data mnist --data-dir mnist
    train digits "$batch" --data digits
done

echo "## A training step beside PyTorch" >>"$out/results.md"
torch_device=$(python3 -c 'import torch; print("cuda" if torch.cuda.is_available() else "cpu")' 2>/dev/null || echo none)
echo '```' >>"$out/results.md"
for batch in $sizes; do
    if [ "$torch_device" = none ]; then
        bin/train_step --device "$device" --batch "$batch" >>"$out/results.md" 2>"$out/step-$batch.log"
    else
        timeout "$limit" python3 train_step.py --program bin/train_step --device "$device" --torch-device "$torch_device" \
            --batch "$batch" --rounds 3 >>"$out/results.md" 2>"$out/step-$batch.log"
    fi
done
echo '```' >>"$out/results.md"
cat "$out/results.md"
