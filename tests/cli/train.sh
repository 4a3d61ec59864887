# train, eval, generate, inspect, report; interruption and resumption.
. "$STRATA_SOURCE/tests/cli/support"
awk 'BEGIN { for (i = 0; i < 800; i++) printf "the cat %d sat on the mat and the dog %d ran away.\n", i, i * 7 % 13 }' >t.txt
model="decoder layers=1 width=32 context=32 mixers=softmax(heads=2 score=mlr ranks=8,8)"
train() { strata train text t.txt --model "$model" --set train.batch=4 --set train.eval_every=10 --set train.save_every=10 "$@"; }

train --out a --set train.steps=40 >summary 2>log || { echo "train: $?"; cat log; }
grep -c '^validation' summary
ls a
strata train text t.txt --model "$model" --out json --set train.steps=2 --json 2>/dev/null | grep -c '"val_loss": [0-9]'

echo "# the same bits after a pause"
train --out b --set train.steps=20 >/dev/null 2>&1
train --out b --set train.steps=40 --set train.resume=1 >/dev/null 2>log || { echo "resume: $?"; cat log; }
losses() { sed 's/.*"step":\([0-9]*\).*"loss":\([^,]*\).*/\1 \2/' "$1/metrics.jsonl"; }
losses a >a.losses; losses b >b.losses
cmp a.losses b.losses && strata eval a >a.eval && strata eval b >b.eval && [ "$(head -n 2 a.eval)" = "$(head -n 2 b.eval)" ] && echo same

echo "# signals"
for signal in INT TERM KILL; do
    # not the function: the signal must reach the program, not a subshell
    strata train text t.txt --model "$model" --set train.batch=4 --set train.eval_every=10 --set train.save_every=10 \
        --out "s$signal" --set train.steps=10000000 --log error >/dev/null 2>log &
    pid=$!
    i=0
    until ls "s$signal"/step-*.safetensors >/dev/null 2>&1 || [ $i -eq 600 ]; do sleep 0.1; i=$((i + 1)); done
    kill -$signal $pid
    wait $pid 2>/dev/null
    status=$?
    [ $signal = KILL ] || echo "$signal: exit $status, $(ls s$signal | grep -c '^step-.*safetensors') checkpoints"
    last=$(strata inspect "s$signal" --json | sed -n '1s/.*"step": \([0-9]*\).*/\1/p')
    train --out "s$signal" --set train.steps=$((last + 3)) --set train.resume=1 >/dev/null 2>log && echo "$signal: goes on" || cat log
    ls -A "s$signal" | grep -e tmp -e '\.[A-Za-z0-9]\{6\}$'
done

echo "# use"
strata eval a t.txt --json | grep -c '"nats": [0-9]'
strata generate a --prompt "the cat " --tokens 12 --seed 5 >g1; strata generate a --prompt "the cat " --tokens 12 --seed 5 | cmp - g1 && wc -c <g1
# a stop text that begins but does not come takes no token away
strata generate a --prompt "the cat " --tokens 12 --seed 5 --stop "$(head -c 12 g1 | tail -c 1)~~" >g2 && cmp g1 g2 && echo "same text"
strata generate a --prompt "the cat " --tokens 12 --temperature 0 --only-new | wc -c
run strata generate a --prompt "a prompt that is longer than the context of this small model" --tokens 5
run strata inspect a --json >i
sed -n '1!s/"count".*//p' i | head -n 4
strata report a b -o r.html --title 'A <b> & "c"' || echo "report: $?"
grep -c '<title>A &lt;b&gt; &amp; &quot;c&quot;</title>' r.html
grep -c -e 'src=' -e '@import' -e 'url(http' r.html
run strata report a missing -o none.html
[ -e none.html ] && echo "half a page"

echo "# what cannot be trained on"
run strata train text missing.txt --model "$model" --out x
: >empty.txt
run strata train text empty.txt --model "$model" --out x
run strata train text . --model "$model" --out x
run strata train txt t.txt --model "$model" --out x
run strata train text t.txt --model "decodr" --out x
run strata train text t.txt --model "$model" --out x --set train.stesp=3
run strata train text t.txt --model "$model" --out x --set train.steps
run strata train text t.txt --model "$model" --out t.txt/x
printf 'train.steps = 3\ntrain.lrr = 1\n' >bad.conf
run strata train text t.txt --model "$model" --out x --config bad.conf
STRATA_DATA=nowhere run strata train text --model "$model" --out x
run strata train text t.txt --model "$model" --out nan --set train.lr=1000 --set train.warmup=0 --set train.clip=0 --set train.steps=200 >nan.log
tail -n 1 nan.log

echo "# files that are no checkpoints"
run strata eval missing
run strata inspect t.txt
head -c 3000 a/best.safetensors >cut.safetensors
run strata inspect cut.safetensors | sed 's,are [0-9]* bytes,are N bytes,'
tensors foreign.safetensors x:F32:2,2:0
run strata generate foreign.safetensors --prompt x
