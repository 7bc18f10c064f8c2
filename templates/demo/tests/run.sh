#!/bin/sh
# Runs all checks; a line each.
cd "$(dirname "$0")/.." || exit 2
count=0
failed=0
check() { # what, input, expected
  count=$((count + 1))
  got=$(printf '%b' "$2" | sh src/sum.sh)
  if [ "$got" = "$3" ]; then
    echo "ok    $1"
  else
    echo "FAIL  $1: expected $3, got $got"
    failed=$((failed + 1))
  fi
}
check "adds the lines" '1,rent\n2,bread\n' 3
check "an empty file is 0" '' 0
check "ignores what follows the comma" '5,7,9\n' 5
check "the last line counts without a line end" '1\n2' 3
echo "$count checks, $failed failed"
[ "$failed" = 0 ]
