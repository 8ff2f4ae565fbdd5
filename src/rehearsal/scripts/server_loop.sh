#!/bin/sh
# Stands for the running IBEX server. Ends when its pid file goes, so also when the sandbox is removed.
pid_file=$1
echo $$ >"$pid_file" || exit 1
cd / || exit 1
while [ -e "$pid_file" ]; do
    sleep 1
done
