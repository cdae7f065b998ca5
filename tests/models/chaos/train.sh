#!/bin/bash
exec python3 -S "$(dirname "$(readlink -f "$0")")/chaos.py" "$@"
