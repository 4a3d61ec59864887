# apply operator: sizes come from the spec, from x and from the parameters' shapes.
. "$STRATA_SOURCE/tests/cli/support"
tensors in.st x:F64:3,9:0 dy:F64:3,6:1 param.U:F64:6,2:2 param.V:F64:9,2:3
run strata apply operator "lowrank rank=2" in.st y.st
run strata apply operator "lowrank rank=2" in.st grad.st --grad
run strata apply operator "lowrank rank=2 rows=6 cols=9" in.st sized.st --grad
cmp grad.st sized.st && echo "same bits"

echo "# does not fit"
run strata apply operator "lowrank rank=3" in.st out.st
run strata apply operator "lowrank rank=2 rows=5" in.st out.st
run strata apply operator "lowrank rank=2 cols=8" in.st out.st
run strata apply operator "dense" in.st out.st
tensors no_dy.st x:F64:3,9:0 param.U:F64:6,2:2 param.V:F64:9,2:3
run strata apply operator "lowrank rank=2" no_dy.st out.st --grad
tensors dy.st x:F64:3,9:0 dy:F64:3,5:1 param.U:F64:6,2:2 param.V:F64:9,2:3
run strata apply operator "lowrank rank=2" dy.st out.st --grad
tensors extra.st x:F64:3,9:0 param.U:F64:6,2:2 param.V:F64:9,2:3 param.W:F64:2,2:3
run strata apply operator "lowrank rank=2" extra.st out.st
tensors nan.st x:F64:3,9:0 param.U:F64:6,2:nan param.V:F64:9,2:3
run strata apply operator "lowrank rank=2" nan.st out.st
ls
