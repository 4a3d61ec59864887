# Series: baselines, training, evaluation, forecasts with a picture, and files that cannot be read.
. "$STRATA_SOURCE/tests/cli/support"
awk 'BEGIN { print "date,north,\"south, low\""
    for (i = 0; i < 600; i++) printf "2024-%02d-%02d %02d:00,%.6f,%.6f\n", int(i / 24 / 28) + 1, int(i / 24) % 28 + 1, i % 24,
        10 + 3 * sin(i * 0.2617993878) + (i * 7919 % 13) / 40, 500 - 40 * cos(i * 0.2617993878) + (i * 104729 % 17) / 5 }' >h.csv
keys="--set forecast.lookback=48 --set forecast.horizon=12 --set train.batch=16"
fit() { strata train forecast h.csv $keys "$@" >log 2>&1 || cat log; }
numbers() { awk '/^m[as][es]/ { printf "%s %.1f\n", $1, $2 }' "$@"; }

echo "# baselines"
fit --out last --model repeat-last
strata eval last >e && numbers e
fit --out day --model "seasonal-naive period=24"
strata eval day | numbers
echo "# trained"
for m in linear "dlinear kernel=25" "decoder layers=1 width=16 mixers=softmax(heads=2 score=mlr levels=2)"; do
    fit --out run --model "$m" --set train.steps=200 --set train.lr=2e-3 --set forecast.patch=8 --set train.eval_tokens=200
    strata eval run --best | awk '$1 == "mse" { print $2 < 0.25 ? "learned" : $2 }'
    cp -r run keep; rm -r run
    strata forecast keep h.csv -o p.csv 2>&1; wc -l <p.csv; rm -r keep
done
fit --out run --model "decoder layers=1 width=16 mixers=softmax(heads=2 causal=0)" --set forecast.tokens=variate --set train.steps=20
strata eval run --json | grep -c '"mse": [0-9.]*, "mae": [0-9.]*, "mase": [0-9.]*, "mse_repeat_last": '

echo "# a pause changes nothing"
fit --out a --model dlinear --set train.steps=20
fit --out b --model dlinear --set train.steps=10
fit --out b --model dlinear --set train.steps=20 --set train.resume=1
strata eval a --json | sed 's/.*"mse": \([0-9.]*\).*/\1/' >a.mse
strata eval b --json | sed 's/.*"mse": \([0-9.]*\).*/\1/' | cmp - a.mse && echo same

echo "# forecasts"
strata forecast day h.csv | head -n 3
strata forecast day h.csv --horizon 30 --back 24 -o q.csv 2>log; wc -l <q.csv; sed 's/error [0-9.e-]* over/error X over/' log
head -n 1 q.csv
grep -c '<path class="forecast"' q.svg
strata forecast day h.csv --json -n 2 | sed 's/"forecast.*//'
printf '@attribute series_name string\n@data\nx:1,2,3,4\ny:5,?\n' >two.tsf
strata forecast last two.tsf --horizon 2 --plot two.svg

echo "# what cannot be read"
bad() { run strata forecast day "$1"; run strata train forecast "$1" $keys --model linear --out x; }
printf 'date,x\n2024-01-01,1\n2024-01-02\n' >ragged.csv; bad ragged.csv
printf 'date,x\n2024-01-01,1\n2024-01-02,two\n' >text.csv; bad text.csv
printf 'x\n1\n2\n' >one.csv; bad one.csv
printf 'date,x\n2024-01-02,1\n2024-01-01,2\n' >order.csv; bad order.csv
: >empty.csv; bad empty.csv
bad missing.csv
run strata train forecast h.csv --model seasonal-naive --out x
run strata train forecast h.csv --model "dlinear kernel=24" --out x
run strata train forecast h.csv --model dlinear --out x --set forecast.split=0.5,0.5
run strata train forecast h.csv --model decoder --out x --set forecast.lookback=50
run strata train forecast h.csv --model linear --out x --set forecast.split=ett-h
run strata train forecast --model linear --out x
run strata forecast day
run strata forecast h.csv h.csv
