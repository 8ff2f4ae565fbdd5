#!/bin/sh
# Rehearsal: starts the server in the background, unless it runs already.
here=$(cd "$(dirname "$0")" && pwd) || exit 1
. "$here/ioc_tools/sandbox.sh"
mkdir -p "$var/tmp" "$var/logs" || exit 1
if server_runs; then
    echo "IBEX server is already running (process $(cat "$pid_file"))"
else
    rm -f "$pid_file"
    detach=setsid
    command -v setsid >/dev/null 2>&1 || detach=nohup
    $detach sh "$here/ioc_tools/server_loop.sh" "$pid_file" </dev/null >>"$var/logs/server.log" 2>&1 &
    tries=0
    until server_runs; do
        tries=$((tries + 1))
        if [ "$tries" -gt 200 ]; then
            echo "IBEX server did not start" >&2
            exit 1
        fi
        pause
    done
    echo "IBEX server started (process $(cat "$pid_file"))"
fi
echo "running" >"$marker"
