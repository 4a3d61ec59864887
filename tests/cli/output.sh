# Lost output is an error: a full device, a closed descriptor, a folder that is not there.
. "$STRATA_SOURCE/tests/cli/support"
[ -c /dev/full ] || { echo "SKIP no /dev/full"; exit; }
tensors in.st q:F32:1,1,3,2:0 k:F32:1,1,3,2:1 v:F32:1,1,3,2:2
full() {
    printf '$ %s >/dev/full\n' "$*"
    "$@" 2>&1 >/dev/full
    echo "exit $?"
}
full strata version
full strata help train
full strata doctor
full strata cost "dense rows=2 cols=2"
full strata config --show
run strata apply attention "score=standard" in.st /dev/full
run strata help --markdown missing/docs
strata version >&- 2>closed
echo "closed: exit $?"
sed 's/:[^:]*$//' closed
ls -la /dev/full | cut -c 1
