# report: what tasks measure, errors in context beside the closed forms, forecasts and what came.
. "$STRATA_SOURCE/tests/cli/support"
for seed in 1 2; do
    strata train regression --out icr-seed$seed --model "decoder layers=1 width=16 mixers=softmax(heads=2)" --threads 1 \
        --set regression.dims=3 --set regression.noise=0.5 --set regression.eval_sequences=64 --set train.batch=4 \
        --set train.steps=20 --set train.seed=$seed >log 2>&1 || { echo "train: $?"; cat log; }
done
awk 'BEGIN {
    print "date,up,down"
    for (i = 0; i < 800; i++) printf "2024-%02d-%02d %02d:00:00,%.4f,%.4f\n", 1 + int(i / 672), 1 + int(i % 672 / 24), i % 24,
        10 + sin(0.2618 * i), -3 * sin(0.2618 * i) }' >h.csv
forecast() { # NAME MODEL
    strata train forecast h.csv --out "$1" --model "$2" --threads 1 --set forecast.lookback=48 --set forecast.horizon=24 \
        --set forecast.patch=12 --set train.steps=30 --set train.batch=8 --set train.eval_tokens=500 >log 2>&1 ||
        { echo "train: $?"; cat log; }
}
forecast lin "dlinear"
forecast dec "decoder layers=1 width=16 mixers=softmax(heads=2)"
forecast last "repeat-last"

section() { sed -n "/<h2>$2</,/<h2>/p" "$1"; }
strata report icr-seed* -o icr.html || echo "report: $?"
well_formed icr.html
section icr.html "What the tasks measure" | sed 's/<small>.*small>/SPREAD/; s,<td>[-0-9.]* SPREAD,<td>NUMBER SPREAD,; s/<[^>]*>/ /g' | tr -s ' ' | grep -e last -e icr
section icr.html "Error in context" | grep -o '<td class="soft">.*' | sed 's/<[^>]*>/ /g' | tr -s ' '
section icr.html "Error in context" | grep -c '^<tr><td><span class="dot" .*icr</td><td>[0-9.]*</td><td>[0-9.]*</td></tr>$'

strata report lin dec last -o fc.html || echo "report: $?"
well_formed fc.html
section fc.html "Forecasts and what came" | grep -o 'The last [0-9]* rows of .*' | sed 's/<[^>]*>//g'
section fc.html "Forecasts and what came" | grep -o '</span>[a-z]*</td><td>[0-9.]*</td><td>[0-9.]*</td></tr>' | sed 's,</span>\([a-z]*\)</td>.*,\1,'
section fc.html "Forecasts and what came" | grep -o 'last</td><td>.*</td></tr>'
section fc.html "What the tasks measure" | sed -n 's/<[^>]*>/ /g; /last eval/p' | tr -s ' '
if command -v gnuplot >/dev/null; then
    section icr.html "Error in context" | grep -c -e '<figcaption>In-context error, 3 dimensions, noise of deviation 0.5</figcaption>'
    section fc.html "Forecasts and what came" | grep -c '<figcaption>[a-z]*</figcaption>'
else
    echo 2
    echo 2
fi

echo "# data that are gone"
mv h.csv gone.csv
strata report lin -o gone.html 2>&1 | sed 's,/.*/,,'
grep -c "Forecasts and what came" gone.html
exit 0
