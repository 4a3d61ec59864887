# report: seeds become one model, readings at equal amounts, what is kept apart.
. "$STRATA_SOURCE/tests/cli/support"
awk 'BEGIN { for (i = 0; i < 400; i++) printf "the cat %d sat on the mat and the dog %d ran away.\n", i, i * 7 % 13 }' >t.txt
train() { # NAME SEED SCORE KEYS...
    name=$1 seed=$2 score=$3
    shift 3
    strata train text t.txt --out "$name" --model "decoder layers=1 width=16 context=16 mixers=softmax(heads=2 score=$score)" \
        --threads 1 --set train.batch=4 --set train.steps=20 --set train.eval_every=5 --set train.seed="$seed" "$@" >log 2>&1 ||
        { echo "train: $?"; cat log; }
}
train a-seed1 1 standard
train a-seed2 2 standard --set train.eval_every=10
train b-seed1 1 "window window=4"
train b-seed2 2 "window window=4"
train longer 3 standard --set train.steps=24
cp -r b-seed1 again

# The names of the rows of the first table, their seeds, and how many losses have a spread.
rows() { sed -n '1,/<\/table>/p' "$1" | sed -n 's,^<tr><td><span[^>]*></span>\([^<]*\)</td><td>\([^<]*\)</td>.*,\1: \2,p'; }
strata report a-seed1 b-seed1 a-seed2 b-seed2 -o r.html || echo "report: $?"
grep -o '[0-9]* runs of [0-9]* models' r.html
well_formed r.html
rows r.html
grep -c '^<tr>.*<small>±&nbsp;[0-9.]*</small>' r.html
grep -o 'in the mean of 2 seeds' r.html
sed -n 's,.*<h2>\(.*\)</h2>.*,\1,p' r.html
sed -n '/At equal/,/<\/table>/p' r.html | grep -o '<th>at [^<]*<br>[^<]*' | sed 's/at [0-9.]* s/at TIME/'
sed -n '/At equal/,/<\/table>/p' r.html | grep -c '<td[^>]*>[0-9.]* <small>'
grep -o '<code>train.seed</code></td><td><code>1, 2</code></td><td><code>1, 2</code>' r.html | wc -l
grep -c -e 'src=' -e '@import' -e 'url(http' r.html

echo "# one model: a mean, nothing to compare with"
strata report b-seed2 b-seed1 -o one.html || echo "report: $?"
rows one.html
grep -c 'At equal' one.html

echo "# other steps make another model; the same seed again is no further seed"
strata report a-seed1 longer b-seed1 again a-seed2 -o apart.html || echo "report: $?"
rows apart.html

echo "# other data are another model, and of other validation data; older runs do not say what they were trained on"
mv t.txt first.txt
{ cat first.txt; echo "and one more line"; } >t.txt
train a-seed3 3 standard
sed -n 's,^# data [0-9a-f]* \([0-9]*\) /.*/,data \1 ,p' a-seed1/config.conf a-seed3/config.conf
strata report a-seed1 a-seed3 a-seed2 -o data.html || echo "report: $?"
rows data.html
grep -o 'The runs have different validation data' data.html
grep -o '<td><code>t.txt, [0-9]* bytes, [0-9a-f]*' data.html | sed 's/, [0-9a-f]*$//'
for r in a-seed1 a-seed2; do sed -i '/^# data/d' $r/config.conf; done
strata report a-seed1 a-seed2 -o old.html || echo "report: $?"
rows old.html

echo "# pictures, where they can be made"
strata report a-seed1 b-seed1 -o single.html 2>/dev/null
grep -c -e '&nbsp;' -e '<th>seeds' -e 'its band goes' single.html
if command -v gnuplot >/dev/null; then
    grep -q 'fill-opacity' r.html || echo "no bands"
    grep -q 'its band goes from' r.html || echo "bands are not explained"
fi
exit 0
