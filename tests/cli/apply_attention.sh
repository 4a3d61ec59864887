# apply attention: what is written, and what is refused with which status.
. "$STRATA_SOURCE/tests/cli/support"
q=q:F32:2,4,7,6:0 k=k:F32:2,2,7,6:1 v=v:F32:2,2,7,3:2 do=do:F32:2,4,7,3:3
tensors in.st $q $k $v $do
names() { head -c 4000 "$1" | tr ',{' '\n\n' | sed -n 's/^"\([a-z.0-9A-Z]*\)":$/\1/p' | grep -v -e __ -e metadata | sort | tr '\n' ' '; echo; }

run strata apply attention "score=mlr ranks=3,2,1 gain=count" in.st forward.st
names forward.st
run strata apply attention "score=mlr ranks=3,2,1 gain=count" in.st both.st --grad
names both.st
run strata apply attention "score=mlr ranks=3,2,1 gain=count" in.st again.st --grad
cmp both.st again.st && echo "same bits"

echo "# does not fit"
run strata apply attention "score=mlr ranks=3,2" in.st out.st
tensors no_do.st $q $k $v
run strata apply attention "score=standard" no_do.st out.st --grad
tensors no_k.st $q $v
run strata apply attention "score=standard" no_k.st out.st
tensors rank.st q:F32:2,4,42:0 $k $v
run strata apply attention "score=standard" rank.st out.st
tensors width.st $q k:F32:2,2,7,5:1 $v
run strata apply attention "score=standard" width.st out.st
tensors heads.st $q k:F32:2,3,7,6:1 v:F32:2,3,7,3:1
run strata apply attention "score=standard" heads.st out.st
tensors mixed.st $q k:F64:2,2,7,6:1 $v
run strata apply attention "score=standard" mixed.st out.st
tensors nan.st $q $k v:F32:2,2,7,3:nan
run strata apply attention "score=standard" nan.st out.st
sed 's/"F32"/"U32"/g' in.st >type.st
run strata apply attention "score=standard" type.st out.st
tensors empty.st q:F32:2,4,0,6:0 $k $v
run strata apply attention "score=standard" empty.st out.st

echo "# the last value of do is near the largest f32: gradients overflow"
{ head -c $(($(wc -c <in.st) - 4)) in.st; printf '\000\000\177\177'; } >huge.st
run strata apply attention "score=standard scale=1e30" huge.st huge_out.st --grad
ls huge_out.st 2>/dev/null

echo "# files"
run strata apply attention "score=standard" missing.st out.st
head -c 900 in.st >cut.st
run strata apply attention "score=standard" cut.st out.st
head -c 5 in.st >header.st
run strata apply attention "score=standard" header.st out.st
: >zero.st
run strata apply attention "score=standard" zero.st out.st
mkdir folder
run strata apply attention "score=standard" folder out.st
run strata apply attention "score=standard" in.st missing/out.st
run strata apply attention "score=standard" in.st out.st --device cuda
ls
