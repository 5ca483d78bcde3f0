# Installs what `test` and `measure` need, where it is missing. Sourced by them, at the root of the repository.

TOOLS=target/tools
mkdir -p "$TOOLS"
PATH="$PATH:$PWD/$TOOLS/python/bin"

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

apt_ready=
# Debian's packages, unless the command or file that they bring is there.
need() { # command, package…
  command -v "$1" >/dev/null 2>&1 && return 0
  command -v apt-get >/dev/null 2>&1 || { echo "missing: $1 (install it, then try again)"; return 1; }
  need_lists || return 1
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${@:2}" >/dev/null
}

need_lists() {
  [ -n "$apt_ready" ] || as_root apt-get update -qq || return 1
  apt_ready=1
}

need_python() {
  need python3 python3 python3-venv || return 1
  # Debian's python3 comes without what makes a venv.
  python3 -c 'import ensurepip' 2>/dev/null || need_anew python3-venv
}
need_anew() { need a-command-that-nobody-has "$@"; }

# Python's packages, into a folder of our own.
need_python_tool() { # command, requirement
  command -v "$1" >/dev/null 2>&1 && return 0
  need_python || return 1
  [ -x "$TOOLS/python/bin/pip" ] || python3 -m venv "$TOOLS/python" || return 1
  "$TOOLS/python/bin/pip" install -q --disable-pip-version-check "$2"
}

# The emulator of AWS.
need_moto() { need_python_tool moto_server 'moto[server]==5.2.*'; }
