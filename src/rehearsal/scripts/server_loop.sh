#!/bin/sh
# Stands for the running IBEX server. Ends when its pid file goes, so also when the sandbox is removed, and by itself
# after two hours, so that a rehearsal leaves nothing running on the machine for good.
pid_file=$1
echo $$ >"$pid_file" || exit 1
cd / || exit 1
seconds=0
while [ -e "$pid_file" ] && [ "$seconds" -lt 7200 ]; do
    sleep 1
    seconds=$((seconds + 1))
done
