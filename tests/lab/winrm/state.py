"""What all parts of the bench share: its options and its state, set by __main__."""
import json
import sys
import time

OPT = None
BENCH = None


def log(**facts):
    """One line of JSON for each request, where --log names a file (`-`: standard error)."""
    if not OPT.log:
        return
    facts["t"] = round(time.time(), 3)
    with BENCH.log_lock:
        out = sys.stderr if OPT.log == "-" else open(OPT.log, "a")
        print(json.dumps(facts), file=out, flush=True)
        if out is not sys.stderr:
            out.close()
