#!/bin/sh
# Rehearsal: prints values of PVs as caget does. They stand in Var/sandbox_pvs.txt, lines NAME=VALUE.
tools=$(cd "$(dirname "$0")" && pwd) || exit 1
here=$(cd "$tools/.." && pwd) || exit 1
. "$here/ioc_tools/sandbox.sh"

# The value of a PV; fails when it is not connected.
value_of() {
    server_runs || return 1
    if [ -r "$var/sandbox_pvs.txt" ]; then
        while IFS='=' read -r name value; do
            if [ "$name" = "$1" ]; then
                printf '%s\n' "$value"
                return 0
            fi
        done <"$var/sandbox_pvs.txt"
    fi
    case $1 in
        *:DAE:RUNSTATE_STR | DAE:RUNSTATE_STR) echo SETUP ;;
        *) return 1 ;;
    esac
}

terse=no
status=0
while [ $# -gt 0 ]; do
    case $1 in
        -t) terse=yes ;;
        -w | -p | -F | -\#) shift ;;
        -*) ;;
        *)
            if value=$(value_of "$1"); then
                if [ $terse = yes ]; then printf '%s\n' "$value"; else printf '%-30s %s\n' "$1" "$value"; fi
            else
                echo "Channel connect timed out: '$1' not found." >&2
                status=1
            fi
            ;;
    esac
    shift
done
exit $status
