#!/bin/sh
# Plays one of MySQL's clients in a sandbox: MariaDB's, by the socket of the sandbox's server.
for argument; do
  shift
  case $argument in
    --no-defaults | --host=* | --port=*) ;;
    *) set -- "$@" "$argument" ;;
  esac
done
exec @PROGRAM@ --no-defaults --socket="$IBEX_ROOT/mysql.sock" @OPTIONS@ "$@"
