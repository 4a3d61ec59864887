# A spec that is wrong in itself gives 2 and names the nearest key, also when the input is missing.
. "$STRATA_SOURCE/tests/cli/support"
run strata apply attention "score=mrl" missing.st out.st
run strata apply attention "skore=mlr" missing.st out.st
run strata apply attention "score=mlr ranks=4,x" missing.st out.st
run strata apply attention "score=mlr ranks=(" missing.st out.st
run strata apply operator "lowrnk rank=2" missing.st out.st
run strata apply operator "lowrank rnk=2" missing.st out.st
run strata apply operator "lowrank rank=0" missing.st out.st
run strata apply mixer "softmax haeds=2" missing.st out.st
run strata apply mixer "softmax qkv=lowrank(rnk=1)" missing.st out.st
run strata apply mixer "softmax score=window" missing.st out.st
run strata apply mixer "softmax heads=4 kv_heads=3" missing.st out.st
run strata apply mixer "softmax score=mlr ranks=4,4 d_qk=6" missing.st out.st
run strata apply attention "score=standard" missing.st out.st
run strata cost "dense rows=0 cols=1"
run strata cost "nothing"
run strata cost "softmax score=mlr ranks=4,4 vranks=4,4 d_qk=8 d_v=6"
echo "# a model states its own width"
run strata cost "decoder width=30 mixers=softmax(heads=4)"
run strata cost "decoder width=64 linear=dense(rows=3)"
run strata train text missing.txt --model "decoder mixers=softmax(score=mrl)" --out run
run strata train text missing.txt --model "decoder width=30 mixers=softmax(heads=4)" --out run
