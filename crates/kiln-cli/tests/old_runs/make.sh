#!/usr/bin/env bash
# Makes the runs, studies and pictures of this folder with the program of an earlier commit (README.md says which):
#
#   ./make.sh PROGRAM
#
# PROGRAM is `kiln` built from that commit. Needs Python 3. Nothing is made anew while a folder is there: remove it first.
set -euo pipefail
kiln="$(realpath "$1")"
cd "$(dirname "$0")"

python3 - <<'PY'
import os, random, struct, zlib
random.seed(5)

def png(path, rows):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows), 9)
    open(path, "wb").write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b""))

def texture(kind):
    along = [lambda x, y: x, lambda x, y: y, lambda x, y: x + y][kind]
    phase = random.randrange(4)
    return [[(60 + 130 * ((along(x, y) + phase) // 2 % 2)) + random.randrange(60) for x in range(8)] for y in range(8)]

# Names that a person and a program order differently, and a folder `val` that was passed over then.
for kind, name in enumerate(["10", "2", "9"]):
    for folder, count in [("train", 8), ("val", 2), ("test", 3)]:
        for number in range(count):
            png(f"pictures/{folder}/{name}/{number}.png", texture(kind))

for number in range(12):
    top, left = random.randrange(9), random.randrange(9)
    inside = [[top <= y < top + 7 and left <= x < left + 7 for x in range(16)] for y in range(16)]
    noise = lambda light: (170 if light else 40) + random.randrange(60)
    png(f"cells/image/{number}.png", [[noise(light) for light in row] for row in inside])
    png(f"cells/label/{number}.png", [[255 * light for light in row] for row in inside])
PY

# NAME SETTINGS...: the run NAME/whole, and NAME/killed, which ends in the middle of an epoch.
run() {
    local name=$1
    shift
    "$kiln" train --offline --device flex --progress none --set checkpoint.every=1 --set checkpoint.keep=1 --set log_every=5 \
        --run-dir "$name/whole" "$@"
    local state=
    until grep -qs '"batch": [1-9]' "$state"; do
        rm -rf "$name/killed"
        "$kiln" train --offline --device flex --progress none --set checkpoint.every=1 --set checkpoint.keep=1 --set log_every=5 \
            --run-dir "$name/killed" "$@" 2>/dev/null &
        # Somewhere after the second epoch.
        until [ "$(grep -sc valid "$name/killed/metrics.jsonl")" -ge 2 ]; do sleep 0.002; done
        sleep "0.0$((RANDOM % 10))"
        kill -9 $!
        wait $! || true
        rm -rf "$name"/killed/checkpoints/.*.partial
        state="$(echo "$name"/killed/checkpoints/*/state.json)"
        [ ! -e "$name/killed/model.safetensors" ] || state=
    done
    # Pages and pictures are made anew from the rest.
    rm -f "$name"/{whole,killed}/{report.html,*.png}
}

run digits --data digits --model mlp --epochs 8 --batch-size 8 --lr 0.005 --set 'model.hidden=[4]' --set data.train_len=200 \
    --set data.test_len=40
run classes --data image-folder --data-dir pictures --model mlp --epochs 6 --batch-size 2 --lr 0.01 --set 'model.hidden=[6]' \
    --set 'data.size=[8,8]' --set augment.hflip=0.5 --set data.train_len=20 --set data.test_len=7
run masks --task segmentation --data mask-folder --data-dir cells --model unet --epochs 30 --batch-size 2 --lr 0.3 \
    --set 'model.channels=[2]' --set model.bilinear=true --set optimizer.name=sgd --set data.train_len=10 --set data.valid_fraction=0.2
rm -rf masks/whole/checkpoints

# What the program of then makes of a picture.
"$kiln" predict digits/whole pictures/test/10/0.png --json >digits/predicted.json
"$kiln" predict classes/whole pictures/test/{10,2,9}/0.png --json >classes/predicted.json
"$kiln" predict masks/whole cells/image/11.png --out masks/predicted >/dev/null
rm masks/predicted/*overlay*

mkdir study
cat >study/recipe.toml <<'TOML'
# A recipe as it was written then: without `data.version`.
epochs = 2
batch_size = 16

[data]
name = "digits"
train_len = 100
test_len = 20
valid_fraction = 0.2

[model]
name = "mlp"
hidden = [2]
TOML
cat >study/space.toml <<'TOML'
lr = { log = [1e-4, 1e-1], sets = "optimizer.lr" }
units = { int = [2, 4], sets = "model.hidden" }
optimizer = { choice = ["adam", "sgd"], sets = "optimizer.name" }
momentum = { float = [0.0, 0.9], sets = "optimizer.momentum", when = { optimizer = "sgd" } }
TOML
for storage in sqlite:///study/tune.db journal:study/tune.log; do
    "$kiln" tune --recipe study/recipe.toml --space study/space.toml --study old --storage "$storage" --trials 4 \
        --device flex --seed 1 --runs study/runs --quiet
done
"$kiln" study trials --storage sqlite:///study/tune.db --study old --format json >study/trials.json
rm -r study/runs
find . -name run.lock -delete
