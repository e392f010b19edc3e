#!/bin/sh
# Stands for a tool of the firewall: records its arguments and its input in a file beside itself.
{ echo "$@"; cat; } > "$0.recorded"
