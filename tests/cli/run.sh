#!/bin/sh
# tests/cli/run.sh [--build DIR] [--accept] [NAME...]: the command-line cases; see README.md.
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 1
root=$(cd "$here/../.." && pwd)
. "$root/tools/lib.sh"

# one CASE.sh: run it, compare, leave WORK/NAME.show and WORK/NAME.result (passed, failed or skipped)
one() {
    base=${1%.sh}
    name=${base##*/}
    dir=$work/$name
    out=$work/$name.stdout err=$work/$name.stderr show=$work/$name.show
    mkdir -p "$dir"
    (
        cd "$dir" || exit 125
        HOME=$dir STRATA_SOURCE=$root PATH=$build:$PATH timeout 300 sh -u "$1" >"$out" 2>"$err" </dev/null
    )
    status=$?
    result=passed
    : >"$show"
    if [ "$(head -c 5 "$out")" = "SKIP " ]; then
        echo "skip  $name: $(head -n 1 "$out" | cut -c 6-)" >"$show"
        case $(cat "$show") in
            *"${STRATA_REQUIRE:-no such word}"*) result=failed ;;
            *) result=skipped ;;
        esac
    else
        if [ "$accept" = 1 ]; then
            cp "$out" "$base.stdout"
            if [ $status -eq 0 ]; then rm -f "$base.exit"; else echo $status >"$base.exit"; fi
        fi
        expected=0
        [ ! -f "$base.exit" ] || read -r expected <"$base.exit"
        if [ $status -ne "$expected" ]; then
            result=failed
            echo "exit status $status, not $expected" >>"$show"
        fi
        if [ -f "$base.stdout" ] && ! diff -u "$base.stdout" "$out" >>"$show" 2>&1; then
            result=failed
        fi
        if [ -f "$base.stderr.glob" ]; then
            # shellcheck disable=SC2254
            case $(cat "$err") in
                $(cat "$base.stderr.glob")) ;;
                *) result=failed ;;
            esac
        fi
        if [ $result = failed ]; then
            {
                echo "FAIL  $name"
                cat "$show"
                [ ! -f "$base.stderr.glob" ] || sed 's/^/stderr should match: /' "$base.stderr.glob"
                tail -n 20 "$err" | sed 's/^/stderr: /'
            } >"$show.new"
            mv "$show.new" "$show"
        fi
    fi
    echo $result >"$work/$name.result"
}

if [ "${1:-}" = --one ]; then
    work=$2 build=$3 accept=$4
    one "$5"
    exit 0
fi

build=$root/build/release accept=0
while [ $# -gt 0 ]; do
    case $1 in
        --build) build=$2; shift 2 ;;
        --accept) accept=1; shift ;;
        -*) echo "usage: tests/cli/run.sh [--build DIR] [--accept] [NAME...]" >&2; exit 2 ;;
        *) break ;;
    esac
done
build=$(cd "$build" && pwd) || exit 1
[ -x "$build/strata" ] || { echo "FAIL  no program $build/strata"; echo "0 passed, 1 failed, 0 skipped"; exit 1; }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
if [ -n "${STRATA_DATA:-}" ] && [ -d "$STRATA_DATA" ]; then
    STRATA_DATA=$(cd "$STRATA_DATA" && pwd)
    export STRATA_DATA
fi
export LC_ALL=C OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive
unset STRATA_ISA STRATA_VERBOSE TERM OMP_DYNAMIC OMP_THREAD_LIMIT 2>/dev/null

for case in "$here"/*.sh; do
    name=$(basename "$case" .sh)
    [ "$name" = run ] && continue
    wanted=$([ $# -eq 0 ] && echo 1)
    for want; do case $name in *"$want"*) wanted=1 ;; esac; done
    [ -z "$wanted" ] || printf '%s\n' "$case"
done >"$work/list"
xargs -P "$(cores)" -I '{}' "$here/run.sh" --one "$work" "$build" $accept '{}' <"$work/list"
cat "$work"/*.show 2>/dev/null
awk -v expected="$(grep -c . "$work/list")" '
    { n[$1]++ }
    END {
        if (NR != expected || !expected) { print "FAIL  " NR " of " expected " cases reported"; n["failed"]++ }
        printf "%d passed, %d failed, %d skipped\n", n["passed"], n["failed"], n["skipped"]
        exit n["failed"] > 0
    }' $(find "$work" -maxdepth 1 -name '*.result') /dev/null
