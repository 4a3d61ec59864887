#!/bin/sh
# tests/install/run.sh BUILD: install a build into a temporary prefix, move the prefix, then use it as strangers do.
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 1
build=$(cd "$1" && pwd) || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
passed=0 failed=0 skipped=0
log=$work/log
unset DESTDIR LD_LIBRARY_PATH PKG_CONFIG_PATH CMAKE_PREFIX_PATH CPATH LIBRARY_PATH 2>/dev/null

# try NAME COMMAND...
try() {
    name=$1
    shift
    if ("$@") >"$log" 2>&1; then
        passed=$((passed + 1))
        echo "ok    $name"
    else
        failed=$((failed + 1))
        echo "FAIL  $name"
        tail -n 20 "$log"
    fi
}
skip() {
    skipped=$((skipped + 1))
    echo "skip  $1"
}
finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ $failed -eq 0 ]
    exit
}

try "install" cmake --install "$build" --prefix "$work/first"
prefix=$work/moved/deep\ er
mkdir -p "$work/moved"
mv "$work/first" "$prefix" || finish # nothing may remember where it was first
lib=$(dirname "$(find "$prefix" -name libstrata.a)")

found_package() {
    cmake -S "$here" -B "$work/consumer" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Debug && cmake --build "$work/consumer"
}
try "find_package: configure and build" found_package
try "find_package: shared, C" "$work/consumer/shared"
try "find_package: static, C" "$work/consumer/static"
if [ -x "$work/consumer/shared_cxx" ]; then
    try "find_package: shared, C++17" "$work/consumer/shared_cxx"
    try "find_package: static, C++17" "$work/consumer/static_cxx"
else
    skip "find_package from C++: no C++ compiler"
fi
if [ -x "$prefix/bin/strata" ]; then
    try "the installed program runs" "$prefix/bin/strata" version
fi
soname() { [ -e "$lib/libstrata.so.0.1" ] && [ -L "$lib/libstrata.so" ]; }
try "libstrata.so.0.1" soname

if command -v pkg-config >/dev/null 2>&1; then
    # pkg-config splits at blanks, so this part moves once more
    mv "$prefix" "$work/pc"
    prefix=$work/pc
    lib=$(dirname "$(find "$prefix" -name libstrata.a)")
    PKG_CONFIG_PATH=$lib/pkgconfig
    export PKG_CONFIG_PATH
    # shellcheck disable=SC2046
    pc_shared() {
        cc -std=c17 "$here/consumer.c" -o "$work/pc_shared" $(pkg-config --cflags --libs strata) -lm -Wl,-rpath,"$lib" &&
            "$work/pc_shared"
    }
    # shellcheck disable=SC2046
    pc_static() {
        cc -std=c17 "$here/consumer.c" -o "$work/pc_static" $(pkg-config --cflags strata) \
            $(pkg-config --static --libs strata | sed 's/-lstrata/-l:libstrata.a/') && "$work/pc_static"
    }
    try "pkg-config: shared" pc_shared
    try "pkg-config: static" pc_static
else
    skip "no pkg-config"
fi

header() { # header COMPILER STANDARD LANGUAGE FILE
    echo "#include <strata/$4>" | "$1" -std="$2" -x "$3" -Wall -Wextra -Wpedantic -Werror -fsyntax-only -I"$prefix/include" -
}
for h in "$here"/../../include/strata/*.h; do
    h=${h##*/}
    try "$h alone as C17" header cc c17 c "$h"
    if command -v c++ >/dev/null 2>&1; then
        try "$h alone as C++17" header c++ c++17 c++ "$h"
    else
        skip "$h as C++17: no C++ compiler"
    fi
done
finish
