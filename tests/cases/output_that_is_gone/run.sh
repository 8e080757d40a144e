#!/bin/bash
# stdout is closed, full, or a pipe whose reader has left: no traceback, and the exit code tells what happened.
. "$(dirname "$0")/../lib.sh"
study searcher.db > /dev/null 2>&1 || fault "no study"
bad=
for words in "status" "studies" "best --study s --json"; do
  searcher $words >&- 2> e.txt; [ $? -le 1 ] && ! grep -q Traceback e.txt || { tail -1 e.txt; bad="$bad closed:$words"; }
  searcher $words > /dev/full 2> e.txt; [ $? = 1 ] && ! grep -q Traceback e.txt || { tail -1 e.txt; bad="$bad full:$words"; }
  (set -o pipefail; searcher $words 2> e.txt | true); code=$?
  [ $code = 0 ] && [ ! -s e.txt ] || { tail -1 e.txt; bad="$bad pipe:$words($code)"; }
done
searcher status --db nowhere.db 2>&-; [ $? = 2 ] || bad="$bad closed-stderr"
[ -z "$bad" ] || fault "ends badly:$bad"
good "one line or nothing each time"
