#!/usr/bin/env bash
# Runs on the machine with the card, in the unpacked folder of pack.sh: ./run.sh [OUT_DIR]
#
# Correctness first, then training, then speed beside the PyTorch that is installed there. Writes OUT_DIR/results.md,
# and every program's output beside it. PARTS chooses among tests, agreement, train, step, layers (all by default), so
# that a machine that is lent for minutes can be used in several calls; results are added to what is there.
# DEVICE=flex runs the CPU path, for a machine without a card.
set -uo pipefail
cd "$(dirname "$0")"
out="${1:-results}"
device="${DEVICE:-auto}"
sizes="${BATCHES:-64 512 4096}"
limit="${LIMIT:-240}"
parts="${PARTS:-tests agreement train step layers}"
mkdir -p "$out"
for deb in deb/*.deb; do [ -e "$deb" ] && dpkg -x "$deb" / && ldconfig; done 2>/dev/null
chmod +x bin/* tests/*
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}" KILN_DATA_DIR="$PWD/cache"
# The tests' own choice of a device; any real GPU is `wgpu` to them.
[ "$device" = flex ] && export KILN_TEST_DEVICES=flex || export KILN_TEST_DEVICES=wgpu

say() { echo "$@" >>"$out/results.md"; }
has() { [[ " $parts " == *" $1 "* ]]; }
fenced() { say "\`\`\`"; "$@" >>"$out/results.md" 2>>"$out/speed.log"; say "\`\`\`"; }

if [ ! -e "$out/results.md" ]; then
    say "# Kiln on $(date -u +%F), commit $(cat commit)"
    say ""
    say "$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo "no NVIDIA card")"
    say '```'
    bin/kiln devices >>"$out/results.md" 2>"$out/devices.log"
    say '```'
fi

check() { # name, log, command...
    local name=$1 log="$out/$2"
    shift 2
    if timeout "$limit" "$@" >"$log" 2>&1; then
        say "- $name: $(grep -oE '[0-9]+ passed|[0-9]+ cases?, [0-9]+ failed|[0-9]+ files compared, [0-9]+ differ' "$log" | tail -1)"
    else
        say "- $name: **failed**, see $(basename "$log")"
    fi
}
if has tests; then
    say "## Tests"
    for test in tests/*; do check "$(basename "$test")" "test-$(basename "$test").log" "$test" --test-threads=1; done
fi
if has agreement; then
    say "## Agreement with PyTorch"
    for crate in norm clip data train zoo; do
        # The tables of the zoo need no card.
        files=$(ls golden/kiln-$crate/*.json | grep -vE 'macs|counts|state_dicts')
        check "$crate" agreement-$crate.log bin/agreement $files --device "$device"
    done
fi

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
        say "| $data | $batch | failed, see $(basename "$file").log | | |"
    fi
    rm -rf "$file-run"
}
if has train; then
    say "## Training"
    say "| data | batch | test accuracy | images/s | seconds |"
    say "|---|---|---|---|---|"
    for batch in $sizes; do
        [ -d mnist ] && train mnist "$batch" --data mnist --data-dir mnist
        train digits "$batch" --data digits
    done
fi

torch_device=$(python3 -c 'import torch; print("cuda" if torch.cuda.is_available() else "cpu")' 2>/dev/null || echo none)
beside() { # script, arguments...
    local script=$1
    shift
    timeout "$limit" python3 "bin/$script.py" --program "bin/$program" --device "$device" --torch-device "$torch_device" "$@"
}
if has step; then
    say "## A training step beside PyTorch"
    for batch in $sizes; do
        if [ "$torch_device" = none ]; then
            fenced bin/train_step --device "$device" --batch "$batch"
        else
            program=train_step fenced beside train_step --batch "$batch" --rounds 3
        fi
    done
fi
if has layers; then
    if [ "$torch_device" = none ]; then
        say "PyTorch is not installed: layers were not compared."
    else
        say "## Layers, clipping and networks beside PyTorch"
        program=norm_step fenced beside norms --seconds 0.3 --rounds 2
        program=clip_speed fenced beside clipping --rounds 3
        program=zoo_speed fenced beside zoo --steps 5 --nets golden/kiln-zoo
    fi
fi
cat "$out/results.md"
