# report: sizes of one family, the fits through them, and what is refused.
. "$STRATA_SOURCE/tests/cli/support"
awk 'BEGIN { for (i = 0; i < 400; i++) printf "the cat %d sat on the mat and the dog %d ran away.\n", i, i * 7 % 13 }' >t.txt
train() { # NAME WIDTH SEED SCORE KEYS...
    name=$1 width=$2 seed=$3 score=$4
    shift 4
    strata train text t.txt --out "$name" --model "decoder layers=1 width=$width context=16 mixers=softmax(heads=2 score=$score)" \
        --threads 1 --set train.batch=4 --set train.steps=20 --set train.eval_every=5 --set train.seed="$seed" "$@" >log 2>&1 ||
        { echo "train: $?"; cat log; }
}
for w in 8 16 24 32; do
    train std-w$w-seed1 $w 1 standard
    train std-w$w-seed2 $w 2 standard
done
for w in 8 16; do train win-w$w $w 1 "window window=4"; done
train std-w16-slow 16 1 standard --set train.lr=1e-7
train alone 16 1 "mlr levels=2"
train other 16 1 "mlr levels=1"

# The rows of the scaling table: name, sizes, and which cells have an interval.
fits() {
    sed -n '/>Loss against size</,/<\/table>/s,^<tr><td><span[^>]*></span>\([^<]*\)</td><td>\([0-9]*\)</td>\(.*\)</tr>,\1 \2\3,p' "$1" |
        sed 's,<td>-*[0-9.]* <small>±&nbsp;[0-9.]*</small>[^/]*</td>, fit,g; s,<td>-*[0-9.]* <small>.*</td>, fit,g; s,<td>–</td>, –,g'
}
strata report std-w*seed* win-* std-w16-slow alone other -o r.html || echo "report: $?"
grep -o '[0-9]* runs of [0-9]* models' r.html
well_formed r.html
fits r.html | sed "s,<td>none<.td>,,g" | cut -d" " -f1-3
grep -o 'win has [^<]*' r.html
grep -o 'of several learning rates' r.html
if command -v gnuplot >/dev/null; then
    grep -c '<figcaption>Loss against' r.html
else
    echo 2
fi
echo "nine models, four families: a colour for each"
sed -n '1,/<\/table>/p' r.html | grep -o 'class="dot" style="color:var(--c[0-9])"></span>[^<]*' | sed 's/.*(--\(c.\)).*>/\1 /'

echo "# families by pattern"
strata report std-w8-seed1 std-w16-seed1 std-w24-seed1 win-w8 --family 'all=*-w*' -o r.html || echo "report: $?"
fits r.html | sed "s,<td>none<.td>,,g" | cut -d" " -f1-3

echo "# one size each: no section"
strata report std-w8-seed1 win-w8 -o r.html || echo "report: $?"
grep -c 'Loss against size' r.html
run strata report std-w8-seed1 --family all -o r.html
exit 0
