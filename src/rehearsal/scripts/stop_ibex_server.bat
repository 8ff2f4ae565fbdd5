#!/bin/sh
# Rehearsal: ends the server and waits until it is gone.
here=$(cd "$(dirname "$0")" && pwd) || exit 1
. "$here/ioc_tools/sandbox.sh"
if server_runs; then
    kill "$server" 2>/dev/null
    tries=0
    while server_runs; do
        tries=$((tries + 1))
        [ "$tries" -eq 100 ] && kill -9 "$server" 2>/dev/null
        if [ "$tries" -gt 200 ]; then
            echo "IBEX server does not end (process $server)" >&2
            exit 1
        fi
        pause
    done
    echo "IBEX server stopped"
else
    echo "IBEX server is not running"
fi
rm -f "$pid_file" "$marker"
# As the real script it ends SECI as well.
rm -f "$var/seci.pid"
