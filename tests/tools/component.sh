#!/bin/sh
# Adding a component is adding a folder: puts the templates of tests/component into a copy of the tree, builds it, and
# runs conformance and their own tests. The copy stays in build/component, so that a second run is quick.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tools/lib.sh
tree=build/component/tree
rm -rf $tree
mkdir -p $tree
files . 'src/*' 'include/*' 'cli/*' 'cmake/*' 'tests/*' 'fuzz/*' CMakeLists.txt | grep -v '^tests/component/' |
    tar -cf - -T - | tar -xf - -C $tree || exit 1
tests=
for template in tests/component/*/*/; do
    family=$(basename "$(dirname "$template")")
    name=$(basename "$template")
    [ ! -e "$tree/src/$family/$name" ] || { echo "$family/$name is taken"; exit 1; }
    cp -pR "$template" "$tree/src/$family/$name"
    tests="$tests ${name}_test ${family}_test"
done
# Nothing but the new folders differs from the tree, so the layer check must like the copy too
tools/check_layers $tree && tools/check_banned $tree || exit 1
{
    cmake -S $tree -B build/component/build -G Ninja -DCMAKE_BUILD_TYPE=Debug -DSTRATA_WERROR=ON &&
        cmake --build build/component/build --target $tests
} >build/component/log 2>&1 || { tail -n 40 build/component/log; exit 1; }
grep -x "X($name)" "build/component/build/generated/registry/$family.def" || exit 1
passed=0 failed=0 skipped=0
for t in $tests; do
    (cd $tree && STRATA_FAST=1 timeout 600 ../build/"$t") >build/component/$t.log 2>&1
    status=$?
    set -- $(counts build/component/$t.log)
    if [ $# -ne 3 ] || { [ $status -ne 0 ] && [ "$2" -eq 0 ]; }; then
        set -- "${1:-0}" 1 "${3:-0}"
    fi
    [ "$2" -eq 0 ] || tail -n 20 build/component/$t.log
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
