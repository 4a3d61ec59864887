# Shared by the scripts in tools/ and tests/ (sourced).

# files ROOT PATTERN...: files of the tree below ROOT whose path matches a shell pattern, one a line, relative to ROOT.
# In a git checkout: what git tracks or would track.
files() {
    files_root=$1
    shift
    if [ -e "$files_root/.git" ] && command -v git >/dev/null 2>&1; then
        git -C "$files_root" -c safe.directory='*' ls-files -co --exclude-standard
    else
        (cd "$files_root" && find . -type f ! -path './build/*' ! -path './.git/*' ! -path './runs/*' | sed 's|^\./||')
    fi | LC_ALL=C sort -u | while IFS= read -r f; do
        [ -f "$files_root/$f" ] || continue
        for pattern; do
            # shellcheck disable=SC2254
            case $f in $pattern) printf '%s\n' "$f"; break ;; esac
        done
    done
}

# counts FILE: "passed failed skipped" of a log that ends with such a line, else nothing
counts() {
    tail -n 1 "$1" | sed -n 's/^\([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed, \([0-9][0-9]*\) skipped$/\1 \2 \3/p'
}

cores() {
    getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2
}
