#!/bin/sh
# Kiln and Optuna on the same studies; see README.md beside this file.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH= cd -- "$here/../../.." && pwd)
cd "$root"
target=${CARGO_TARGET_DIR:-$root/target}
built=$target/release
work=$(mktemp -d)
chmod 755 "$work"
skipped=0
skip() {
    skipped=$((skipped + 1))
    echo "SKIPPED $*"
}
stop_servers() {
    [ ! -f "$work/postgres/data/postmaster.pid" ] || kill -INT "$(head -1 "$work/postgres/data/postmaster.pid")" 2>/dev/null || true
    [ ! -f "$work/mariadb/pid" ] || kill "$(cat "$work/mariadb/pid")" 2>/dev/null || true
    sleep 1
    rm -rf "$work"
}
trap stop_servers EXIT INT TERM

echo "== programs"
cargo build --release -p kiln-study -p kiln-tune-rdb --features kiln-study/postgres,kiln-study/mysql,kiln-study/tls --bin kiln-study --example many_processes

echo "== Python"
venv=${KILN_INTEROP_VENV:-$target/interop/venv}
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
fi
"$venv/bin/python" -c 'import optuna; print("Optuna", optuna.__version__)'

# Runs a command as another user when we are root, for neither server likes root.
as() {
    user=$1
    shift
    if [ "$(id -u)" = 0 ]; then setpriv --reuid="$user" --regid="$user" --clear-groups "$@"; else "$@"; fi
}
own() {
    mkdir -p "$2"
    if [ "$(id -u)" = 0 ]; then chown "$1" "$2"; fi
}
install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    { apt-get install -y --no-install-recommends "$1" || { apt-get update && apt-get install -y --no-install-recommends "$1"; }; } >"$work/apt.log" 2>&1
}
free_port() {
    "$venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# A certificate of 127.0.0.1, and the authority that vouches for it.
echo "== certificates"
certificates() {
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=kiln-interop -keyout "$work/ca.key" -out "$work/ca.pem" &&
        openssl req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout "$work/server.key" -out "$work/server.csr" &&
        echo "subjectAltName=IP:127.0.0.1" >"$work/server.ext" &&
        openssl x509 -req -days 2 -in "$work/server.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial \
            -extfile "$work/server.ext" -out "$work/server.pem"
}
tls=no
if command -v openssl >/dev/null && certificates 2>"$work/openssl.log"; then
    tls=yes
else
    skip "encrypted connections: there is no openssl to make certificates"
fi
# Copies of the key for a server, which reads only its own.
key_for() {
    own "$1" "$2"
    cp "$work/server.key" "$work/server.pem" "$2/"
    chmod 600 "$2/server.key"
    if [ "$(id -u)" = 0 ]; then chown "$1" "$2/server.key" "$2/server.pem"; fi
}
# Encrypted it works, without the authority it is refused.
check_tls() {
    [ "$tls" = yes ] || return 0
    "$built/kiln-study" create --storage "$1?sslmode=verify-full&sslrootcert=$work/ca.pem" --study encrypted >/dev/null || return 1
    if "$built/kiln-study" list --storage "$1?sslmode=require" >"$work/tls.log" 2>&1; then return 1; fi
    grep -qi certificate "$work/tls.log" || { cat "$work/tls.log"; return 1; }
    "$built/kiln-study" delete --storage "$1?sslmode=require&sslrootcert=$work/ca.pem" --study encrypted
}

set --
status=0
echo "== PostgreSQL"
find_postgres() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1; }
bin=$(find_postgres)
[ -n "$bin" ] || { install postgresql && bin=$(find_postgres); } || true
if [ -n "$bin" ] && "$venv/bin/python" -c 'import psycopg2' 2>/dev/null; then
    port=$(free_port)
    own postgres "$work/postgres"
    as postgres "$bin/initdb" -D "$work/postgres/data" -A trust -U kiln >/dev/null
    ssl=""
    if [ "$tls" = yes ]; then
        key_for postgres "$work/postgres/tls"
        ssl="-c ssl=on -c ssl_cert_file=$work/postgres/tls/server.pem -c ssl_key_file=$work/postgres/tls/server.key"
    fi
    as postgres "$bin/pg_ctl" -D "$work/postgres/data" -w -l "$work/postgres/log" \
        -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$work/postgres -c max_connections=300 $ssl" start >/dev/null
    for name in a b c d contract; do as postgres "$bin/createdb" -h 127.0.0.1 -p "$port" -U kiln "$name"; done
    KILN_TUNE_POSTGRES_URL=postgresql://kiln@127.0.0.1:$port/contract
    export KILN_TUNE_POSTGRES_URL
    check_tls "$KILN_TUNE_POSTGRES_URL" || { echo "an encrypted connection to PostgreSQL failed"; status=1; }
    set -- "$@" --url "PostgreSQL=postgresql://kiln@127.0.0.1:$port/{}"
else
    skip "PostgreSQL: no server was found and apt could not install one, or psycopg2 is missing"
fi

echo "== MariaDB"
PATH=$PATH:/usr/sbin
command -v mariadbd >/dev/null || install mariadb-server || true
if command -v mariadbd >/dev/null && "$venv/bin/python" -c 'import pymysql' 2>/dev/null; then
    port=$(free_port)
    own mysql "$work/mariadb"
    as mysql mariadb-install-db --no-defaults --datadir="$work/mariadb/data" --auth-root-authentication-method=normal >/dev/null 2>&1
    ssl=""
    if [ "$tls" = yes ]; then
        key_for mysql "$work/mariadb/tls"
        ssl="--ssl-cert=$work/mariadb/tls/server.pem --ssl-key=$work/mariadb/tls/server.key"
    fi
    # shellcheck disable=SC2086
    as mysql mariadbd --no-defaults $ssl --datadir="$work/mariadb/data" --socket="$work/mariadb/socket" --port="$port" \
        --bind-address=127.0.0.1 --pid-file="$work/mariadb/pid" >"$work/mariadb.log" 2>&1 &
    for _ in $(seq 50); do mariadb-admin --no-defaults -u root --socket="$work/mariadb/socket" ping >/dev/null 2>&1 && break || sleep 0.2; done
    for name in a b c d contract; do
        mariadb --no-defaults -u root --socket="$work/mariadb/socket" -e "CREATE DATABASE $name CHARACTER SET utf8mb4"
    done
    mariadb --no-defaults -u root --socket="$work/mariadb/socket" -e "CREATE USER kiln@'127.0.0.1' IDENTIFIED BY 'kiln'; GRANT ALL ON *.* TO kiln@'127.0.0.1'"
    KILN_TUNE_MYSQL_URL=mysql://kiln:kiln@127.0.0.1:$port/contract
    export KILN_TUNE_MYSQL_URL
    check_tls "$KILN_TUNE_MYSQL_URL" || { echo "an encrypted connection to MariaDB failed"; status=1; }
    set -- "$@" --url "MariaDB=mysql://kiln:kiln@127.0.0.1:$port/{}"
else
    skip "MariaDB: no server was found and apt could not install one, or PyMySQL is missing"
fi

echo "== the storage contract on the servers"
for server in postgres mysql; do
    case $server in
        postgres) url=${KILN_TUNE_POSTGRES_URL:-} ;;
        mysql) url=${KILN_TUNE_MYSQL_URL:-} ;;
    esac
    [ -n "$url" ] || continue
    cargo test --quiet -p kiln-tune-rdb --features "$server" --test storage_contract -- --ignored "$server::" || status=1
done

echo "== Kiln and Optuna"
"$venv/bin/python" "$here/interop.py" --kiln "$built/kiln-study" --many "$built/examples/many_processes" \
    --trials "${KILN_INTEROP_TRIALS:-1000}" --processes "${KILN_INTEROP_PROCESSES:-16}" --kill-seconds "${KILN_INTEROP_KILL_SECONDS:-15}" "$@" || status=1
echo "== done: status $status, $skipped skipped"
exit $status
