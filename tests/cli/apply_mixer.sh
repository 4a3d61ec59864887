# apply mixer: --init fixes the parameters by the seed and writes them.
. "$STRATA_SOURCE/tests/cli/support"
tensors in.st x:F64:2,5,8:0 dy:F64:2,5,8:1
names() { head -c 8000 "$1" | tr ',{' '\n\n' | sed -n 's/^"\([a-z.0-9A-Z]*\)":$/\1/p' | grep -v -e __ -e metadata | sort | tr '\n' ' '; echo; }
run strata apply mixer "softmax heads=2" in.st a.st --init 3 --grad
names a.st
run strata apply mixer "softmax heads=2" in.st b.st --init 3 --grad
run strata apply mixer "softmax heads=2" in.st c.st --init 4 --grad
cmp -s a.st b.st && echo "same seed, same bits"
cmp -s a.st c.st || echo "another seed, other bits"
run strata apply mixer "softmax heads=3" in.st out.st --init 3
run strata apply mixer "softmax heads=2" in.st out.st
tensors no_dy.st x:F64:2,5,8:0
run strata apply mixer "softmax heads=2" no_dy.st out.st --init 3 --grad
ls
