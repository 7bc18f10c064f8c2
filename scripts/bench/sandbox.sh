#!/usr/bin/env bash
# A sandbox's first and further command, docker and native, beside `docker run`, `docker exec`, bubblewrap and a
# plain spawn, in one run. Usage: scripts/bench/sandbox.sh [debug|release]
set -euo pipefail
cd "$(dirname "$0")/../.."
profile=${1:-release}
flag=; [ "$profile" = release ] && flag=--release
cargo build -q $flag --bin codeforge --example sandbox_bench
out=${CARGO_TARGET_DIR:-target}/$profile
image=codeforge-test:latest

# Median milliseconds of N runs of a command.
median() {
    local count=$1 name=$2; shift 2
    for _ in $(seq "$count"); do
        local start end
        start=$(date +%s%N); "$@" >/dev/null 2>&1; end=$(date +%s%N)
        echo $(((end - start) / 1000))
    done | sort -n | awk -v name="$name" '{ v[NR] = $1 } END { printf "%s: %.1f ms (median of %d)\n", name, v[int((NR + 1) / 2)] / 1000, NR }'
}

for driver in none native docker; do "$out/examples/sandbox_bench" "$out/codeforge" "$driver" "$image" 30; done
median 30 "sh -c true" sh -c true
median 30 "bwrap" bwrap --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --unshare-all --die-with-parent sh -c true
median 10 "docker run --rm" docker run --rm --network none "$image" sh -c true
id=$(docker run -d --rm --network none "$image" sleep 600)
trap 'docker rm -f "$id" >/dev/null' EXIT
median 10 "docker exec" docker exec "$id" sh -c true
