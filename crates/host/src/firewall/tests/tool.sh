#!/bin/sh
# Stands for a tool of the firewall: keeps what it is told, beside itself.
{ echo "$@"; cat; } > "$0.told"
