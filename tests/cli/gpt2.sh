# import gpt2, export gpt2: weights there and back, and the model in use.
. "$STRATA_SOURCE/tests/cli/support"
cp "$STRATA_SOURCE/tests/golden/gpt2.safetensors" w.safetensors
strata import gpt2 w.safetensors --tokenizer byte --heads 3 -o m.safetensors && strata inspect m.safetensors | head -n 5
strata inspect m.safetensors --json | grep -c '"tensor"'
printf 'Some text to score.' >t.txt
# four digits: the last ones depend on the instruction set and the build
strata eval m.safetensors t.txt | sed 's/ in .*//; s/\(\.[0-9]\{4\}\)[0-9]*/\1/'
run strata eval m.safetensors
strata generate m.safetensors --prompt "Some text" --tokens 8 --seed 1 --only-new | wc -c
strata export gpt2 m.safetensors -o back.safetensors
strata import gpt2 back.safetensors --tokenizer byte --heads 3 -o again.safetensors && cmp m.safetensors again.safetensors && echo "same bytes"

echo "# what is refused"
run strata import gpt3 w.safetensors -o x
run strata import gpt2 w.safetensors
run strata import gpt2 w.safetensors -o x
run strata import gpt2 w.safetensors -o x --tokenizer byte --heads 5
run strata import gpt2 w.safetensors -o x --tokenizer char96 --heads 3
run strata import gpt2 missing -o x --tokenizer byte
run strata import gpt2 t.txt -o x --tokenizer byte
run strata import gpt2 m.safetensors -o x --tokenizer byte
run strata import gpt2 w.safetensors -o none/x --tokenizer byte --heads 3
run strata export gpt2 m.safetensors
run strata export gpt2 missing -o x
strata train text "$STRATA_SOURCE/README.md" --out r --model "decoder layers=1 width=16 context=16 mixers=softmax(heads=1)" --set train.steps=1 >/dev/null 2>&1
strata export gpt2 r -o x 2>&1 | sed 's/(.*//'
[ -e x ] && echo "half a file"
exit 0
