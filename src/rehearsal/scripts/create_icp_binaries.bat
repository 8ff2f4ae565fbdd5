#!/bin/sh
# Rehearsal: puts the data acquisition program for this machine in place; the kit's own is the right one already.
here=$(cd "$(dirname "$0")" && pwd) || exit 1
mkdir -p "$here/ICP_Binaries" || exit 1
if ! cmp -s "$here/isisicp/isisicp.exe" "$here/ICP_Binaries/isisicp.exe"; then
    cp "$here/isisicp/isisicp.exe" "$here/ICP_Binaries/isisicp.exe" || exit 1
fi
echo "ICP binaries are in place"
