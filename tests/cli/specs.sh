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
run strata apply attention "score=standard" missing.st out.st
run strata cost "dense rows=0 cols=1"
run strata cost "nothing"
