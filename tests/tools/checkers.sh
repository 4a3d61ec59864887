#!/bin/sh
# Every checker passes a clean tree and fails on each planted violation, naming the line.
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 1
tools=$here/../../tools
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

clean() { # a small tree without offences
    cd "$work" || exit 1
    rm -rf "$work/tree"
    mkdir -p "$work/tree/include/strata" "$work/tree/cli" "$work/tree/cmake"
    for d in core io kernel/gemm operator/dense operator/btt mixer/softmax layer/mlp model backend/cuda; do
        mkdir -p "$work/tree/src/$d"
    done
    cd "$work/tree" || exit 1
    printf '#include <stdint.h>\n' >include/strata/base.h
    printf '#include <strata/base.h>\n' >src/core/base.h
    printf '#include "core/base.h"\n' >src/operator/operator.h
    printf '#include "operator/operator.h"\n\n#include "dense.inc"\n#include "kernel/gemm/gemm.h"\n' >src/operator/dense/dense.c
    printf '#include "core/base.h"\n' >src/kernel/gemm/gemm.h
    : >src/operator/dense/dense.inc
    : >src/operator/btt/btt.h
    printf '#include <strata/base.h>\n#include <stdio.h>\n' >cli/main.c
    printf 'set(x 1)\n' >cmake/x.cmake
}
# expect STATUS CHECKER TEXT: run a checker on the tree; TEXT must stand in its output
expect() {
    out=$("$tools/$2" "$work/tree" 2>&1)
    status=$?
    case $out in
        *"$3"*) said=1 ;;
        *) said=0 ;;
    esac
    if [ $status -eq "$1" ] && [ $said -eq 1 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAIL  %s: status %d, wanted %d and the text "%s"; it said:\n%s\n' "$2" $status "$1" "$3" "$out"
    fi
}
# plant CHECKER FILE TEXT-EXPECTED LINE: one offence in an otherwise clean tree
plant() {
    clean
    mkdir -p "$(dirname "$2")"
    printf '%s\n' "$4" >>"$2"
    expect 1 "$1" "$3"
}
# fine CHECKER FILE LINE: looks like an offence and is none
fine() {
    clean
    mkdir -p "$(dirname "$2")"
    printf '%s\n' "$3" >>"$2"
    expect 0 "$1" ""
}

clean
expect 0 check_layers ""
expect 0 check_banned ""
expect 0 check_hygiene ""

l=check_layers
plant $l src/core/base.h "core may not include io" '#include "io/file.h"'
plant $l src/core/base.h "libc and include/strata only" '#include <zlib.h>'
plant $l src/kernel/gemm/gemm.h "kernel may not include operator" '#include "operator/operator.h"'
plant $l src/operator/dense/dense.c "operator/dense includes operator/btt" '#include "operator/btt/btt.h"'
plant $l src/operator/operator.h "operator includes operator/btt" '#include "operator/btt/btt.h"'
plant $l src/operator/dense/dense.c "operator may not include mixer" '  #  include "mixer/mixer.h"'
plant $l src/operator/dense/dense.c "from the root of src/" '#include "../btt/btt.h"'
plant $l src/io/csv.c "io may not include kernel" '#include "kernel/gemm/gemm.h"'
plant $l src/model/model.c "the registry of mixer" '#include "registry/mixer.def"'
plant $l src/mixer/softmax/softmax.c "CUDA headers belong" '#include <cuda_runtime.h>'
plant $l src/mixer/softmax/softmax.c "intrinsics belong" '#include <immintrin.h>'
plant $l src/mixer/softmax/softmax.c "BLAS is called" '#include <cblas.h>'
plant $l src/model/model.c "belongs in src/io" '#include <zstd.h>'
plant $l src/misc/misc.c "no layer" '#include "core/base.h"'
plant $l cli/main.c "cli includes <strata/...> only" '#include "core/base.h"'
plant $l include/strata/base.h "public headers include" '#include "core/base.h"'
plant $l include/strata/base.h "public headers include" '#include <stdio.h>'
fine $l src/mixer/softmax/softmax.c '#include "kernel/gemm/gemm.h"'
fine $l src/mixer/softmax/softmax_avx2.c '#include <immintrin.h>'
fine $l src/backend/cuda/stream.c '#include <cuda_runtime.h>'
fine $l src/mixer/softmax/softmax.c '#include <emmintrin.h>'
fine $l src/schema/schema.c '#include "model/model.h"'
fine $l src/io/tokenizer/tokenizer.c '#include "registry/io/tokenizer.def"'
plant $l src/model/model.c "model may not include schema" '#include "schema/schema.h"'
fine $l src/operator/dense/dense_test.c '#include "model/model.h"'
fine $l src/model/model.c '/* like #include "cli/x.h" */'

b=check_banned
for call in 'abort()' 'exit(1)' 'printf("x")' 'atoi(s)' 'atof(s)' 'strtok(s, t)' 'sprintf(a, b)' 'strcpy(a, b)' \
    'strcat(a, b)' 'rand()' 'system(s)' 'alloca(9)' 'malloc(9)' 'free(p)' 'calloc(1, 9)' 'realloc(p, 9)' 'getenv("X")' \
    'assert(x)' 'omp_set_num_threads(4)' 'puts("x")' 'gets(s)'; do
    plant $b src/model/model.c "src/model/model.c:1: ${call%%\(*}:" "void f(void) { $call; }"
done
plant $b src/model/model.c "never prints" 'void f(void) { fprintf(stderr, "x"); }'
plant $b src/model/model.c "inline without static" 'inline int f(void) { return 1; }'
plant $b src/model/model.c "without num_threads" '#pragma omp parallel for'
plant $b src/model/model.c "omp atomic" '#pragma omp atomic'
plant $b src/model/model.c "#if 0" '#if 0'
plant $b cli/main.c "atoi" 'int main(void) { return atoi("1"); }'
plant $b cmake/x.cmake "march=native" 'add_compile_options(-march=native)'
plant $b cmake/x.cmake "fast math" 'add_compile_options(-ffast-math)'
fine $b src/core/context.c 'void *f(void) { return malloc(9); }'
fine $b src/model/model.c '/* never abort() or exit(1) */ // printf("x")'
fine $b src/model/model.c 'const char *s = "exit(1) abort() /*";'
fine $b src/model/model.c 'void f(void) { a->alloc.free(a->user, p); strata_free(ctx, p); ctx->free(p); }'
fine $b src/model/model.c '#pragma omp parallel for num_threads(n)'
fine $b src/model/model_test.c 'int main(void) { printf("x"); exit(1); }'
fine $b src/model/model.c '    omp_set_num_threads(1); /* ban-ok: local to this region */'
plant $b src/model/model.c "omp_set" '    omp_set_num_threads(1); /* ban-ok: */'
fine $b cli/main.c 'int main(void) { printf("x"); exit(1); }'

h=check_hygiene
note=TO
plant $h src/model/model.c "no notes in the tree" "/* ${note}DO: later */"
dir=/ho
plant $h README.md "path of a machine" "see ${dir}me/somebody/strata"
plant $h src/model/model.c "trailing blank" 'int x; '
plant $h src/model/model.c "tab" "$(printf '\tint x;')"
plant $h src/model/model.c "carriage return" "$(printf 'int x;\r')"
clean
dd if=/dev/zero of=big.bin bs=1048576 count=1 2>/dev/null
expect 1 $h "under 1 MB"
fine $h README.md 'installed below /usr/local, data in ../shared'

# Symbols: a library that exports one name too many
if command -v cc >/dev/null 2>&1; then
    clean
    plantlib() { # plantlib EXTRA-CODE
        cd "$work" || exit 1
        rm -rf "$work/tree"
        mkdir -p "$work/tree/CMakeFiles/strata_portable.dir"
        printf 'int strata_f(void) { return 1; }\n__attribute__((visibility("hidden"))) int sti_f(void) { return 2; }\n%s\n' \
            "$1" >"$work/x.c"
        cc -fPIC -c "$work/x.c" -o "$work/tree/CMakeFiles/strata_portable.dir/x.c.o" &&
            cc -shared "$work/tree/CMakeFiles/strata_portable.dir/x.c.o" -o "$work/tree/libstrata.so" &&
            ar rcs "$work/tree/libstrata.a" "$work/tree/CMakeFiles/strata_portable.dir/x.c.o"
    }
    plantlib ""
    expect 0 check_symbols ""
    plantlib 'int helper(void) { return 3; }'
    expect 1 check_symbols "libstrata.so exports: helper"
    plantlib '__attribute__((visibility("hidden"))) int helper(void) { return 3; }'
    expect 1 check_symbols "libstrata.a defines: helper"
    if [ "$(uname -m)" = x86_64 ]; then
        plantlib 'void sti_g(void); __attribute__((visibility("hidden"))) void sti_g(void) { __asm__("vzeroupper; vxorps %ymm0,%ymm0,%ymm0"); }'
        expect 1 check_symbols "wide registers in portable code: x.c.o"
    fi
fi

# Registry: a name of the golden list that is missing
mkdir -p "$work/reg/generated/registry"
cp "$tools/../tests/golden/registry.txt" "$work/names"
while IFS= read -r name; do
    mkdir -p "$work/reg/generated/registry/$(dirname "$name")"
    echo "X(${name##*/})" >>"$work/reg/generated/registry/${name%/*}.def"
done <"$work/names"
registry() { # registry EXPECTED-STATUS
    if "$tools/check_registry" "$work/reg" >"$work/out"; then status=0; else status=1; fi
    if [ $status -eq "$1" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL  check_registry: status $status, not $1"
        cat "$work/out"
    fi
}
registry 0
echo "X(newcomer)" >>"$work/reg/generated/registry/kernel.def"
registry 0
: >"$work/reg/generated/registry/kernel.def"
registry 1

# Suite: a dying program, and one without its last line, are failures
mkdir -p "$work/build"
suite() { # suite EXPECTED-LAST-LINE SCRIPT...
    want=$1
    shift
    n=0
    : >"$work/build/tests.list"
    for script; do
        n=$((n + 1))
        printf '#!/bin/sh\n%s\n' "$script" >"$work/build/t$n"
        chmod +x "$work/build/t$n"
        echo "$work/build/t$n" >>"$work/build/tests.list"
    done
    got=$("$tools/../tests/suite" "$work/build" | tail -n 1)
    if [ "$got" = "$want" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL  suite: '$got', not '$want'"
    fi
}
suite "3 passed, 0 failed, 1 skipped" 'echo "2 passed, 0 failed, 0 skipped"' 'echo "1 passed, 0 failed, 1 skipped"'
suite "2 passed, 1 failed, 0 skipped" 'echo "2 passed, 0 failed, 0 skipped"' 'kill -SEGV $$'
suite "0 passed, 1 failed, 0 skipped" 'echo "hello"'
suite "2 passed, 1 failed, 0 skipped" 'echo "2 passed, 0 failed, 0 skipped"; exit 1'
suite "0 passed, 1 failed, 0 skipped"

echo "$passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
