# The examples print what their last comment says.
for source in "$STRATA_SOURCE"/examples/*.c; do
    name=$(basename "$source" .c)
    command -v "example_$name" >/dev/null || { echo "SKIP examples are not built"; exit; }
    sed -n '/^\/\* Output:$/,/^\*\/$/p' "$source" | sed '1d;$d' >"$name.expected"
    "example_$name" >"$name.out" || echo "$name: exit $?"
    diff -u "$name.expected" "$name.out" && echo "$name: as expected"
done
