# tokenizer train, encode, decode; a model that keeps its vocabulary.
. "$STRATA_SOURCE/tests/cli/support"
awk 'BEGIN { for (i = 0; i < 800; i++) printf "the cat %d sat on the mat, and the dog %d didn'"'"'t run away.\n", i, i * 7 % 13 }' >t.txt
strata tokenizer train t.txt --vocab 320 -o v.bpe | sed 's/, in .*//'
head -n 4 v.bpe
wc -l <v.bpe
strata tokenizer train t.txt --vocab 320 -o again.bpe --json | sed 's/, "seconds.*//'
cmp v.bpe again.bpe && echo "same bytes"
strata tokenizer train t.txt --vocab 100000 -o big.bpe 2>&1 >/dev/null | sed 's/[0-9]* tokens/N tokens/'
strata tokenizer encode v.bpe --text "the cat sat"
strata tokenizer encode v.bpe t.txt | strata tokenizer decode v.bpe | cmp - t.txt && echo "same text"
printf 'x\0\377\n' | strata tokenizer encode v.bpe | strata tokenizer decode v.bpe | od -An -tx1
strata tokenizer encode v.bpe t.txt --stats | sed 's/, [0-9.e+]* MB.*//'

echo "# a model"
model="decoder layers=1 width=32 context=32 mixers=softmax(heads=2)"
train() { strata train text t.txt --model "$model" --out a --set train.batch=4 --set text.tokenizer=bpe "$@" 2>log || { echo "train: $?"; cat log; }; }
train --set text.vocab=v.bpe --set train.steps=6 --set train.save_every=3 >/dev/null
mv v.bpe elsewhere.bpe
strata eval a | sed 's/  *[0-9].*//'
strata eval a --json | grep -c '"unit": "token".*"bits_per_byte": [0-9]'
strata eval a t.txt | sed -n 's/ in .*//; s/^scored  *//p'
strata generate a --prompt "the cat" --tokens 9 --seed 2 --only-new >g1
head -c -1 g1 | strata tokenizer encode elsewhere.bpe | wc -w | awk '{ print ($1 <= 9 ? "at most 9 tokens" : $1) }'
strata generate a --prompt "the cat" --tokens 3 --temperature 0 --only-new >g3
strata generate a --prompt "the cat" --tokens 9 --temperature 0 --only-new | head -c "$(($(wc -c <g3) - 1))" | cmp - g3 2>&1 | grep -c EOF
run strata train text t.txt --model "$model" --out a --set text.tokenizer=bpe --set text.vocab=v.bpe --set train.steps=8 --set train.resume=1
cp again.bpe v.bpe
train --set text.vocab=v.bpe --set train.steps=8 --set train.save_every=4 --set train.resume=1 >/dev/null && echo "goes on"
sed '$d' again.bpe >v.bpe
echo "X Y" >>v.bpe
run strata train text t.txt --model "$model" --out a --set text.tokenizer=bpe --set text.vocab=v.bpe --set train.steps=9 --set train.resume=1

echo "# what is refused"
run strata tokenizer
run strata tokenizer learn t.txt
run strata tokenizer train t.txt
run strata tokenizer train -o x.bpe
run strata tokenizer train missing.txt -o x.bpe
run strata tokenizer train t.txt -o none/x.bpe
run strata tokenizer train t.txt -o x.bpe --vocab 255
run strata tokenizer encode
run strata tokenizer encode missing.bpe --text x
run strata tokenizer encode t.txt --text x
run strata tokenizer encode again.bpe missing.txt
run strata tokenizer encode again.bpe t.txt t.txt
run strata tokenizer decode again.bpe --text "64 65 x6"
run strata tokenizer decode again.bpe --text "64 320"
run strata train text t.txt --model "$model" --out x --set text.tokenizer=bpe
run strata train text t.txt --model "$model" --out x --set text.vocab=again.bpe
[ -e x.bpe ] && echo "half a file"
exit 0
