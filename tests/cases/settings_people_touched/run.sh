#!/bin/bash
# What editors, spreadsheets and env files leave behind: a byte order mark, CRLF, spaces, semicolons. The meaning stays.
. "$(dirname "$0")/../lib.sh"
study searcher.db > /dev/null 2>&1 || fault "no study"
bad=
printf '\xef\xbb\xbf[study]\r\nname = "bom"\r\n[model]\r\nname = "unet"\r\n' > notepad.toml
searcher validate notepad.toml > v.txt 2>&1 || { tail -1 v.txt; bad="$bad study-file"; }
"$PY" -c "open('utf16.toml', 'wb').write('[study]\nname = \"x\"\n'.encode('utf-16'))"
searcher validate utf16.toml > v.txt 2>&1; [ $? = 2 ] && [ "$(wc -l < v.txt)" -le 2 ] || bad="$bad utf-16"
printf '\xef\xbb\xbfsearcher.db\r\n\r\n' > address.txt
searcher status --db @address.txt > d.txt 2>&1 || { tail -1 d.txt; bad="$bad @FILE"; }
SEARCHER_DB=$' searcher.db\t\r\n' searcher status > d.txt 2>&1 || { tail -1 d.txt; bad="$bad SEARCHER_DB"; }
[ "$(ls | grep -c 'searcher.db')" = "$(ls | grep -cE '^searcher\.db(-wal|-shm)?$')" ] || bad="$bad second-database"
glands data
printf '\xef\xbb\xbfID;Patient\r\nP0_a;7\r\nP1_a;7\r\n P2_a ;8\r\nP3_a;8\r\n' > data/samples.csv
searcher data inspect --data data --json > i.json 2> i.txt || { tail -1 i.txt; bad="$bad inspect"; }
"$PY" -c "import json; assert json.load(open('i.json'))['num_groups'] == 2" 2> /dev/null || bad="$bad samples.csv"
[ -z "$bad" ] || fault "not read as meant:$bad"
good "all are read as they were meant"
