# Every command explains itself, and the pages hold every command and every kind.
for c in train compare eval generate tokenizer import export report apply cost inspect bench config doctor help version; do
    strata "$c" --help >"$c.txt" || echo "$c --help: $?"
    strata help "$c" | cmp - "$c.txt"
    [ "$(awk 'length > 124' "$c.txt" | grep -vc strata)" = 0 ] || echo "$c: long lines"
done
strata | head -n 1
strata help | head -n 3
strata help --markdown pages || echo "markdown: $?"
ls pages/commands | tr '\n' ' '
echo
strata help keys | sed -n 's/^\([a-z][a-z]*\)$/\1/p' | tr '\n' ' '
echo
# a page per kind
strata help keys | awk '/^[a-z]/ && NF == 1 { f = $1 } /^  / { print f "-" $1 ".md" }' | while read -r page; do
    [ -s "pages/keys/$page" ] || echo "no page $page"
    grep -q "keys/$page" pages/index.md || echo "index lacks $page"
done
strata help keys operator lowrank | head -n 1
strata --version | sed 's/ [0-9.]*$/ N/'
