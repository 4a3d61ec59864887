# Tasks that make their own data: train, resume, eval, and what they refuse.
. "$STRATA_SOURCE/tests/cli/support"
regression() {
    strata train regression --model "decoder layers=1 width=16 mixers=softmax(heads=2)" --set regression.dims=2 \
        --set regression.eval_sequences=100 --set train.batch=8 --set train.lr=3e-4 --set train.eval_every=10 --threads 1 "$@"
}
regression --out a --set train.steps=20 >summary 2>log || { echo "train: $?"; cat log; }
grep -c 'squared error$' summary
sed -n 's/"seconds".*//p' a/metrics.jsonl | wc -l
grep -c '"last_error":[0-9.e-]*,"error":\[[0-9.e-]*,' a/metrics.jsonl
regression --out b --set train.steps=20 --set train.seconds=0.000001 >/dev/null 2>&1
regression --out b --set train.steps=20 --set train.resume=1 >/dev/null 2>log || { echo "resume: $?"; cat log; }
strata eval a --threads 1 >a.eval; strata eval b --threads 1 >b.eval
sed 1,2d a.eval >a.rest; sed 1,2d b.eval >b.rest; cmp a.rest b.rest && echo same
sed -n '/^ *error/p' a.eval
awk '$1 == 1 && NF == 8 { print $6, $8 }' a.eval
strata eval a --threads 1 --json | grep -c '"squared_error": [0-9.]*, "unit": "number".*"ols_theory": \[1, 0.5, 0, 0\]'
strata inspect a --json | sed -n '1s/.*\("context"[^,]*\).*/\1/p'

strata train states --model "decoder layers=1 width=16 mixers=softmax(heads=2)" --set states.kind=group --set states.group=z3 \
    --set states.max=5 --set states.eval_max=8 --set states.eval_sequences=20 --set train.steps=5 --threads 1 --out c >summary 2>log ||
    { echo "states: $?"; cat log; }
strata eval c --threads 1 --json | grep -c '"unit": "token", "tokens": 160.*"accuracy": [0-9.]*, "scaled_accuracy"'
strata cost "decoder layers=1 width=16 context=8 inputs=3 outputs=2" --json | grep -c 'inputs=3 outputs=2 read_in=dense'

echo "# refused"
run strata train regression file.csv --model decoder --out x
run regression --out x --set train.steps=0 --set train.seconds=1
run strata train regression --model "decoder context=100" --out x
run strata train regression --model "decoder inputs=3 outputs=1" --out x
run strata train states --set states.kind=group --set states.group=m12 --out x
run strata eval a file.csv
run strata generate a --prompt x
run strata cost "decoder inputs=3"
run strata cost "decoder inputs=3 outputs=1" --vocab 96
