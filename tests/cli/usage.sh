# What is wrong with a command line is said in one line, with the nearest name, and gives 2.
. "$STRATA_SOURCE/tests/cli/support"
run strata trian
run strata frobnicate
run strata --threads 2
run strata train text --otu x
run strata train
run strata train text --out
run strata train text a.txt
run strata version extra
run strata version -x
run strata cost "dense rows=2 cols=2" --length abc
run strata cost "dense rows=2 cols=2" --length -4
run strata cost "dense rows=2 cols=2" --json=yes
run strata doctor --isa sse
run strata apply atention "score=standard" a b
run strata apply attention "score=standard" a
run strata apply operator "dense" a b --init 1
run strata help trian
run strata help keys operatr
run strata help keys operator dens
run strata report runs/a
run strata generate x --prompt ""
