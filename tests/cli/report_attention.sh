# report: what attention is made of, in closed form, and what it does on data.
. "$STRATA_SOURCE/tests/cli/support"
awk 'BEGIN { for (i = 0; i < 400; i++) printf "the cat %d sat on the mat and the dog %d ran away.\n", i, i * 7 % 13 }' >t.txt
train() { # NAME MODEL
    strata train text t.txt --out "$1" --model "$2" --threads 1 --set train.batch=4 --set train.steps=20 >log 2>&1 ||
        { echo "train: $?"; cat log; }
}
train std "decoder layers=2 width=16 context=16 mixers=softmax(heads=2)"
train mlr "decoder layers=2 width=16 context=16 mixers=softmax(heads=2 score=mlr ranks=4,2,2 gain=count)"
train mix "decoder layers=3 width=16 context=32 mixers=softmax(heads=2)|softmax(heads=2 score=window window=3)"

section() { sed -n '/<h2>Attention</,/<h2>/p' "$1"; }
cells() { sed 's/<[^>]*>/ /g' | tr -s ' '; }
strata report std mlr mix -o r.html || echo "report: $?"
well_formed r.html
echo "from the spec: layers, heads, ranks, tokens, active rank, cache bytes a token, of all"
section r.html | sed -n '/from the spec/,/<\/table>/p' | grep '^<tr><td>' | cells
section r.html | grep '<th>layer</th>' | cells
section r.html | grep -c '^<tr><td><span class="dot" style="color:var(--l[0-7])"></span>[0-9]</td><td>[0-9.]*</td>'
section r.html | grep -o -e '<h3>.*</h3>' -e '<details.*</summary>' | cells
if command -v gnuplot >/dev/null; then
    section r.html | grep -o '<figcaption>[^<]*' | sort | uniq -c | sed 's/^ *//'
else
    echo "6 <figcaption>Attention mass against distance
1 <figcaption>Logit scale of the levels
4 <figcaption>Rank of the scores against distance"
fi

echo "# not wanted; other data; data that are gone"
strata report mlr --attention 0 -o none.html || echo "report: $?"
section none.html | grep -c '<th>layer</th>'
head -c 100 t.txt >u.txt
mv t.txt gone.txt
strata report mlr --data u.txt -o other.html || echo "report: $?"
section other.html | grep -c '<th>layer</th>'
strata report mlr -o gone.html 2>&1 | sed 's, open .*/, open ,'
section gone.html | grep -c '<th>layer</th>'
exit 0
