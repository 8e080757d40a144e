#!/bin/bash
# Text that came from a file or an exception is text: no markup, no control code, no line break, and JSON stays JSON.
. "$(dirname "$0")/../lib.sh"
study searcher.db $'cannot read [/mnt/x] [red]now[/red]\x1b[31m\r\nline two \u202e=cmd()' > /dev/null 2>&1 || fault "no study"
bad=
for words in "trials --study s" "best --study s" "status" "doctor" "status --study s" "refine s"; do
  searcher $words > o.txt 2>&1; code=$?
  grep -q Traceback o.txt && { tail -1 o.txt; bad="$bad traceback:$words"; }
  grep -q $'\x1b' o.txt && bad="$bad escape:$words"
  [ $code -le 2 ] || bad="$bad $code:$words"
done
COLUMNS=200 searcher trials --study s | grep -qF '[/mnt/x] [red]now[/red]' || bad="$bad brackets-vanish"
for words in "trials --study s" "status" "doctor" "best --study s"; do
  searcher $words --json > j.txt 2> e.txt
  [ ! -s j.txt ] || "$PY" -c "
import json, sys
def never(name): raise ValueError(name)
json.load(open('j.txt'), parse_constant=never)" || bad="$bad json:$words"
done
[ -z "$bad" ] || fault "read as something else:$bad"
good "shown as it is"
