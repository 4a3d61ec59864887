# compare: the grid of runs, skipping and continuing, verdicts, refusals.
. "$STRATA_SOURCE/tests/cli/support"
awk 'BEGIN { for (i = 0; i < 800; i++) printf "the cat %d sat on the mat and the dog %d ran away.\n", i, i * 7 % 13 }' >t.txt
deep="decoder layers=1 width=32 context=32 mixers=softmax(heads=2 score=mlr ranks=8,8)"
flat="decoder layers=1 width=32 context=32 mixers=softmax(heads=2 score=window window=1)"
compare() {
    strata compare text t.txt --model "$deep" --model "$flat" --name deep --name flat --set train.batch=4 --threads 1 \
        --set train.eval_every=10 --set train.warmup=5 "$@"
}
compare --out a --tokens 5000 --seeds 2 --lr 3e-3,1e-3 >table 2>log || { echo "compare: $?"; cat log; }
ls a
sed -n '1,4p' table
sed -n '/^model/,/^$/s/  *\([0-9.]* s\) .*//p' table
grep -c '^mean loss by learning rate *0.003 *0.001' table
grep -e '^at ' table | sed 's/[^ ]* s of training/TIME of training/'
cmp table a/compare.txt && echo "as in the file"

echo "# runs that are done stay as they are"
ls -l --time-style=full-iso a/*/*.safetensors >before
compare --out a --tokens 5000 --seeds 2 --lr 3e-3,1e-3 2>log | cmp - table && cmp log /dev/null && echo same
ls -l --time-style=full-iso a/*/*.safetensors | cmp - before
compare --out a --tokens 5000 --seeds 3 --lr 3e-3,1e-3 --json 2>log >lines
sed -n 's,^\([0-9]*/[0-9]* [^ ]*\) .*,\1,p' log | sort -u
sed 's/^{"kind": "\([a-z]*\)".*/\1/' lines | sort | uniq -c | sed 's/^ *//'
cmp lines a/compare.json
sed -n '/"verdict"/s/.*\("at": "end"\).*\("verdict": "[a-z]*"\).*/\1 \2/p' lines

echo "# one seed, one run that fails"
compare --out b --tokens 4000 --set train.eval_every=0 --seeds 1 --lr 3e-3,1000 --set train.clip=0 --set train.warmup=0 >table 2>log || { echo "compare: $?"; cat log; }
sed -n '/^at the end/,/^$/s/.*no verdict/no verdict/p' table
grep -q '^[12]-[a-z]* .* failed *$' table && echo "a failed learning rate"
compare --out b --tokens 4000 --set train.eval_every=0 --seeds 1 --lr 3e-3,1000 --set train.clip=0 --set train.warmup=0 2>log | cmp - table && cmp log /dev/null && echo same

echo "# a pause, in the middle of a run"
saving() { compare --set train.save_every=10 --tokens 1e5 --set train.eval_every=100 "$@"; }
# not the function: the signal must reach the program, not a subshell
strata compare text t.txt --model "$deep" --model "$flat" --name deep --name flat --set train.batch=4 --threads 1 \
    --set train.warmup=5 --set train.save_every=10 --tokens 1e5 --set train.eval_every=100 --seeds 2 --out c >table 2>log &
pid=$!
i=0
until ls c/2-flat-lr0.003-seed1/step-*.safetensors >/dev/null 2>&1 || [ $i -eq 600 ]; do sleep 0.05; i=$((i + 1)); done
kill -INT $pid
wait $pid
echo "exit $?"
sed -n 's/[1-3] of 4 runs are done/N of 4 runs are done/p' log
wc -c <table
saving --seeds 2 --out c 2>&1 >table | grep -c '^resuming c/2-flat-lr0.003-seed1$'
saving --seeds 1 --out d >/dev/null 2>&1
losses() { sed 's/.*"step":\([0-9]*\).*"loss":\([^,]*\),.*/\1 \2/' "$1-lr0.003-seed1/metrics.jsonl"; }
for m in 1-deep 2-flat; do losses c/$m >c.losses; losses d/$m | cmp - c.losses && echo "$m: same bits"; done

echo "# other budgets, other tasks"
compare --out e --flops 3e8 --seeds 2 2>/dev/null | sed -n '/^task/p;/^at the end/p;/^at .*tokens,/p'
compare --out f --seconds 0.05 --seeds 1 2>/dev/null | sed -n '/^task/p'
tiny="decoder layers=1 width=16 mixers=softmax(heads=2)"
strata compare states --model "$tiny" --name base --model "$tiny; train.clip=0 train.beta2=0.9" --name free --out g --set states.kind=group --set states.group=z3 \
    --set states.max=5 --set states.eval_max=8 --set states.eval_sequences=20 --tokens 400 --seeds 2 --threads 1 --best >table 2>log ||
    { echo "states: $?"; cat log; }
sed -n 's/^model .* max  *\(accuracy .*\)/\1/p;/^other/p' table
grep -c '^measure.accuracy = [0-9.e-]*$' g/*/outcome
grep -A1 '^accuracy$' table | tail -n 1
grep -e '^train.clip' -e '^train.beta2' g/*seed1/config.conf

echo "# refused"
run compare --tokens 5000
run compare --out x
run compare --out x --tokens 5 --flops 5
run compare --out x --tokens 5000 --set train.steps=5
run compare --out x --tokens 5000 --lr 1e-3,,2e-3
run compare --out x --tokens 5000 --lr 1e-3,0.001
run compare --out x --tokens 5000 --name three
run compare --out x --tokens 5000 --model "decoder; train.lr=1"
run compare --out x --tokens 5000 --model "decoder; train.clip 1"
run compare --out x --tokens 5000 --model "decoder; train.flops=1e9"
run compare --out x --tokens 5000 --params 0.01 --model "decoder layers=2 width=32 context=32"
run compare --out x --tokens 5000 --model "decodr"
run compare --out a --tokens 6000 --seeds 2 --lr 3e-3
run compare --out a --tokens 5000 --seeds 2 --lr 3e-3 --set train.beta2=0.9
run strata compare text missing.txt --model "$deep" --out x --tokens 5
[ -e x ] && echo "something was made"
exit 0
