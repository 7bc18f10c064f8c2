#!/bin/sh
# Sums the first column of a CSV: sh src/sum.sh < FILE
total=0
while IFS=, read -r amount rest; do
  total=$((total + amount))
done
echo "$total"
