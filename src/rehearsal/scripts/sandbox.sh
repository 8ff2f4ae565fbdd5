# What the rehearsal's scripts have in common; read by them, not run.
# `here` is the server's folder. The sandbox's root is told by IBEX_ROOT, else found from the server's usual place.
root=$(cd "${IBEX_ROOT:-$here/../../../..}" && pwd -P) || exit 1
var=$root/c/Instrument/Var
pid_file=$var/ibex_server.pid
marker=$var/tmp/ibex_running.txt

# True while the server runs. A process that ended, and was not yet waited for, has an empty command line; a process
# number that went to another program, or to another sandbox's server, has another one.
server_runs() {
    [ -s "$pid_file" ] || return 1
    server=$(cat "$pid_file")
    kill -0 "$server" 2>/dev/null || return 1
    [ -d /proc/self ] || return 0
    tr '\0' ' ' 2>/dev/null <"/proc/$server/cmdline" | grep -qF "server_loop.sh $pid_file"
}

# A short pause; whole seconds where the system knows no others.
pause() {
    sleep 0.05 2>/dev/null || sleep 1
}
