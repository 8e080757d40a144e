#!/bin/bash
# A database address as people type it: no part of the password is printed, looked up, or becomes the name of a file.
. "$(dirname "$0")/../lib.sh"
bad=
for address in 'postgresql://lab:Sesame@Open/Wide@127.0.0.1:1/db' 'postgresql://lab:Sesame#Open@127.0.0.1:1/db' \
  'postgresql://lab:Sesame%Open@127.0.0.1:1/db' 'host=127.0.0.1 port=1 user=lab password=SesameOpen dbname=db' \
  'postgres://lab:Sesame?Open@127.0.0.1:1/db' 'postgresql://127.0.0.1:1/db?user=lab&password=SesameOpen'; do
  SEARCHER_DB="$address" timeout 120 searcher status > said.txt 2>&1; code=$?
  grep -qE 'Sesame|Open|Wide' said.txt && { cat said.txt; bad="$bad printed"; }
  grep -q Traceback said.txt && bad="$bad traceback"
  [ $code = 0 ] && bad="$bad accepted"
done
ls -A | grep -qE 'Sesame|password' && bad="$bad file"
[ -z "$bad" ] || fault "$bad"
good "six addresses, no word of the password"
