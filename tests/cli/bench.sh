# Every benchmark runs and says what it measured; numbers are not looked at, only that they are there.
what() { sed -n 's/.*"what": "\([^"]*\)".*/\1/p; s/.*"stage": "\([^"]*\)".*/  \1/p'; }
one="--repeat 1 --json"
strata bench operator monarch --rows 64 --cols 64 --count 3 $one | what
strata bench attention "score=mlr ranks=4,4" --time 33 --heads 2 --d-qk 8 $one | tail -n 2 | what
strata bench mixer "softmax heads=2 score=window window=5" --heads 2 --time 20 --width 16 $one | tail -n 2 | what
strata bench decode "score=mlr ranks=4,4" --context 64 --batch 2 --d-qk 8 $one >decode || echo "decode: $?"
what <decode
grep -c '"of_read": [0-9]' decode
strata bench model "decoder layers=1 width=16 context=32" --batch 2 $one >model || echo "model: $?"
what <model | sort
grep -c '"of_sgemm": [0-9]' model
strata bench model "decoder layers=1 width=16 context=32" --f64 2>&1
echo "exit $?"
strata bench modle "decoder" 2>&1
echo "exit $?"
