#!/bin/sh
# `kiln tune` on a PostgreSQL server, two workers on one study, and what Optuna reads of it.
#
#   tune.sh PROGRAM [PYTHON]
#
# PROGRAM is a `kiln` that was built with the feature `postgres`. PYTHON has optuna and psycopg2 (run.sh makes such an
# environment); without it, Optuna's reading is skipped, and said so. The server is taken from the machine, or installed
# with apt by root; it listens on 127.0.0.1 only and is gone at the end.
set -eu
[ $# -ge 1 ] || { echo "usage: tune.sh PROGRAM [PYTHON]" >&2; exit 2; }
kiln=$(CDPATH= cd -- "$(dirname -- "$1")" && pwd)/$(basename -- "$1")
python=${2:-}
work=$(mktemp -d)
chmod 755 "$work"
data=$work/postgres/data
as_postgres() {
    if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi
}
finish() {
    [ ! -f "$data/postmaster.pid" ] || as_postgres "$bin/pg_ctl" -D "$data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT INT TERM

find_postgres() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1; }
bin=$(find_postgres)
if [ -z "$bin" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    { apt-get update && apt-get install -y --no-install-recommends postgresql; } >"$work/apt.log" 2>&1 || tail -3 "$work/apt.log"
    bin=$(find_postgres)
fi
[ -n "$bin" ] || { echo "SKIPPED kiln tune on PostgreSQL: no server was found and apt could not install one"; exit 0; }

mkdir "$work/postgres"
if [ "$(id -u)" = 0 ]; then chown postgres "$work/postgres"; fi
cd "$work/postgres"
as_postgres "$bin/initdb" -D "$data" -A trust -U kiln >/dev/null
# A port that nobody uses: the first that the server gets.
port=
for try in 1 2 3 4 5 6 7 8 9 10; do
    candidate=$((20000 + ($$ + try * 977) % 20000))
    if as_postgres "$bin/pg_ctl" -D "$data" -w -l "$work/postgres/log" \
        -o "-p $candidate -c listen_addresses=127.0.0.1 -c unix_socket_directories=$work/postgres" start >/dev/null 2>&1; then
        port=$candidate
        break
    fi
done
[ -n "$port" ] || { cat "$work/postgres/log"; exit 1; }
as_postgres "$bin/createdb" -h 127.0.0.1 -p "$port" -U kiln studies
url=postgresql://kiln@127.0.0.1:$port/studies

cd "$work"
printf '%s\n' 'epochs = 2' 'batch_size = 32' 'steps_per_epoch = 4' '[data]' 'name = "digits"' 'train_len = 300' 'test_len = 60' \
    'valid_fraction = 0.2' '[model]' 'name = "mlp"' >recipe.toml
printf '%s\n' 'lr = { log = [1e-4, 1e-1], sets = "optimizer.lr" }' 'units = { int = [4, 16], sets = "model.hidden", repeat = "layers" }' \
    'layers = { int = [1, 2] }' >space.toml
tune() {
    "$kiln" tune --recipe recipe.toml --space space.toml --study fleet --storage "$url" --trials 6 --pruner nop --device flex \
        --runs "$1" --quiet --json >"$1.json" 2>"$1.err"
}
# The tables are made once, before the workers meet.
"$kiln" study create --storage "$url" --study fleet --direction maximize --metric-name valid_accuracy >/dev/null
tune first &
other=$!
tune second || { cat second.err; exit 1; }
wait "$other" || { cat first.err; exit 1; }
"$kiln" study best --storage "$url" --study fleet --json >best.json
"$kiln" study trials --storage "$url" --study fleet --json --state complete >trials.json
"$kiln" study list --storage "$url" | grep -q fleet
# A program of the machine's own Python, or none: every trial is there once, and told by one of both.
python3 - <<'PY'
import json
trials, best = json.load(open("trials.json")), json.load(open("best.json"))
assert len(trials) >= 6, len(trials)
assert best["values"][0] == max(trial["values"][0] for trial in trials), best
assert {"lr", "layers", "units0"} <= set(best["params"]), best
print("kiln tune finished", len(trials), "trials on PostgreSQL with two workers, best", best["values"][0])
PY
if [ -n "$python" ] && "$python" -c 'import optuna, psycopg2' 2>/dev/null; then
    "$python" - "$url" <<'PY'
import json, sys
import optuna
study = optuna.load_study(study_name="fleet", storage=sys.argv[1].replace("postgresql://", "postgresql+psycopg2://"))
ours = {trial["number"]: trial for trial in json.load(open("trials.json"))}
complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
assert {trial.number for trial in complete} == set(ours), (len(complete), len(ours))
for trial in complete:
    assert trial.params == ours[trial.number]["params"] and trial.values == ours[trial.number]["values"], trial
print("Optuna reads the same", len(complete), "trials")
PY
else
    echo "SKIPPED Optuna's reading: no Python with optuna and psycopg2 is given"
fi
