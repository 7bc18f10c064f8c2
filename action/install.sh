#!/bin/sh
# Finds the program that this version of the action stands for, and says where it is (output `program`).
#
#   CODEFORGE_BINARY    a program to use as it is: runners that bring their own, and the container image
#   INSTALL_VERSION     empty (the first of the table), VERSION (in the table), or VERSION@sha256:DIGEST
#   INSTALL_MIRROR      base URL with the same files as the release page
#
# The table `checksums.txt` beside this file is part of the release's commit, so whoever pins the action by commit pins
# the program too. Nothing is unpacked, cached or started before its digest is right. A cached program is checked again.
set -eu
umask 022

fail() { # TITLE TEXT: our own words only; never what somebody put into an input.
    printf '::error title=CodeForge: %s::%s\n' "$1" "$2"
    exit "${3:-2}"
}
found() {
    if [ -n "${GITHUB_OUTPUT:-}" ]; then printf 'program=%s\n' "$1" >>"$GITHUB_OUTPUT"; else printf '%s\n' "$1"; fi
    exit 0
}
newline='
'

if [ -n "${CODEFORGE_BINARY:-}" ]; then
    case $CODEFORGE_BINARY in *"$newline"*) fail "no such program" "CODEFORGE_BINARY holds a line break" ;; esac
    [ -x "$CODEFORGE_BINARY" ] || fail "no such program" "CODEFORGE_BINARY does not name a program that this job can start; unset it to download the released one"
    found "$CODEFORGE_BINARY"
fi

table="$(dirname "$0")/checksums.txt"
system=$(uname -s)
machine=$(uname -m)
case $system in Linux) ;; *) fail "this runner" "CodeForge runs on Linux; choose runs-on: ubuntu-24.04 or another Linux" ;; esac
case $machine in
    x86_64 | amd64) machine=x86_64 ;;
    aarch64 | arm64) machine=aarch64 ;;
    *) fail "this runner" "there is no released program for this processor; set CODEFORGE_BINARY to one that you built" ;;
esac

wanted=${INSTALL_VERSION:-}
digest=
case $wanted in
    *@sha256:*)
        digest=${wanted##*@sha256:}
        wanted=${wanted%%@sha256:*}
        [ ${#digest} -eq 64 ] || fail "input version" "after @sha256: come 64 hexadecimal digits"
        case $digest in *[!0-9a-f]*) fail "input version" "after @sha256: come 64 hexadecimal digits, in lower case" ;; esac
        ;;
esac
wanted=${wanted#v}
case $wanted in *[!0-9A-Za-z.+-]* | .* | *..*) fail "input version" "a version looks like 1.2.3, or like 1.2.3@sha256:DIGEST" ;; esac
known() { sed -n "s/^[0-9a-f]\{64\}  codeforge-\(.*\)-$machine-linux\$/\1/p" "$table" 2>/dev/null; }
[ -n "$wanted" ] || wanted=$(known | head -n 1)
[ -n "$wanted" ] || fail "no released program" "this checkout of the action is not a release: use a tag (or its commit), or set CODEFORGE_BINARY"
name=codeforge-$wanted-$machine-linux
[ -n "$digest" ] || digest=$(awk -v name="$name" '$2 == name { print $1; exit }' "$table")
[ -n "$digest" ] || fail "input version" "this version of the action does not know that version of CodeForge: pin another version of the action, or give VERSION@sha256:DIGEST"

right() { # FILE: whether it is the one that was released.
    if command -v sha256sum >/dev/null 2>&1; then set -- "$(sha256sum <"$1")"; else set -- "$(shasum -a 256 <"$1")"; fi
    [ "${1%% *}" = "$digest" ]
}

for root in "${RUNNER_TOOL_CACHE:-}" "${RUNNER_TEMP:-}" "${TMPDIR:-/tmp}"; do
    [ -n "$root" ] || continue
    folder=$root/codeforge/$wanted/$machine
    program=$folder/codeforge
    if [ -f "$program" ] && right "$program"; then
        echo "codeforge $wanted: from the runner's cache, digest checked"
        found "$program"
    fi
    # A folder that this job cannot write is somebody else's; the next one will do.
    if mkdir -p "$folder" 2>/dev/null && [ -w "$folder" ]; then break; fi
    folder=
done
[ -n "$folder" ] || fail "no place" "neither RUNNER_TOOL_CACHE nor RUNNER_TEMP can be written"

from=${INSTALL_MIRROR:-}
[ -n "$from" ] || from=$(sed -n 's/^# from //p' "$table" 2>/dev/null | head -n 1)
case $from in
    https://* | http://*) ;;
    *) fail "input mirror" "a mirror is the base URL of the release's files and begins with https:// (or http://)" ;;
esac
case $from in *[!0-9A-Za-z._~:/?=\&%@+,-]*) fail "input mirror" "a mirror's URL holds no spaces, quotes or other characters that URLs do not have" ;; esac
url=${from%/}/v$wanted/$name.gz

work=$(mktemp -d "$folder/.new.XXXXXX")
trap 'rm -rf "$work"' EXIT
if command -v curl >/dev/null 2>&1; then
    # The configuration of whoever owns the runner (proxies, certificates) holds; a home folder's does not.
    curl -q --fail --silent --show-error --location --proto '=https,http' --retry 4 --retry-connrefused \
        --connect-timeout 15 --max-time 600 --max-filesize 209715200 --output "$work/packed" "$url" 2>"$work/said" || status=$?
elif command -v wget >/dev/null 2>&1; then
    wget -q -T 60 -O "$work/packed" "$url" 2>"$work/said" || status=$?
else
    fail "no download" "this job has neither curl nor wget; use an image that has one, or set CODEFORGE_BINARY"
fi
[ "${status:-0}" -eq 0 ] || fail "no download" "$name.gz could not be fetched (status $status of the download). Is the mirror right, and does the runner reach it?" 5

# Unpacked as a stream of limited length, and used only if it is what was released.
{ gzip -dc <"$work/packed" 2>/dev/null || :; } | head -c 419430400 >"$work/codeforge"
right "$work/codeforge" || fail "wrong digest" "$name.gz is not the released program: what came has another digest. Nothing was started. Somebody changed the file, or the mirror holds another version" 4
chmod 755 "$work/codeforge"
mv -f "$work/codeforge" "$program"
echo "codeforge $wanted: downloaded, digest checked"
found "$program"
