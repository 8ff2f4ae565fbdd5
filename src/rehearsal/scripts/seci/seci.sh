# What the scripts of the rehearsal's SECI have in common; read by them, not run.
# `here` is SECI's folder. The sandbox's root is told by IBEX_ROOT, else found from SECI's usual place.
root=$(cd "${IBEX_ROOT:-$here/../../../..}" && pwd -P) || exit 1
pid_file=$root/c/Instrument/Var/seci.pid

# True while SECI runs: a process number may have gone to another program.
seci_runs() {
    [ -s "$pid_file" ] || return 1
    seci=$(cat "$pid_file")
    kill -0 "$seci" 2>/dev/null || return 1
    [ -d /proc/self ] || return 0
    tr '\0' ' ' 2>/dev/null <"/proc/$seci/cmdline" | grep -qF "SeciUserInterface.exe"
}

# A short pause; whole seconds where the system knows no others.
pause() {
    sleep 0.05 2>/dev/null || sleep 1
}
