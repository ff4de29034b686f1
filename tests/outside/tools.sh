# For scripts to source: the Python tools of the checks from outside, in a folder of the cache, and on PATH.

outside_tools() {
    local cache=${DARKROOM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/darkroom-checks}/outside
    local wanted=(tests/outside/requirements.txt tests/outside/requirements-alone.txt)
    if ! cat "${wanted[@]}" | cmp -s - "$cache/installed.txt"; then
        python3 -m venv --clear "$cache"
        "$cache/bin/pip" install --quiet --disable-pip-version-check --requirement "${wanted[0]}"
        "$cache/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "${wanted[1]}"
        cat "${wanted[@]}" >"$cache/installed.txt"
    fi
    PATH=$cache/bin:$PATH
}
