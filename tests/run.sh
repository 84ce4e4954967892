#!/usr/bin/env bash
# Sets up what the tests need and runs them all. Arguments are handed to `cargo test`, e.g. `bash tests/run.sh distance`.
set -euo pipefail
cd "$(dirname "$0")/.."

has_postgres() {
  { command -v initdb && command -v postgres; } >/dev/null 2>&1 && return 0
  local directory
  for directory in /usr/lib/postgresql/*/bin; do
    [ -x "$directory/initdb" ] && [ -x "$directory/postgres" ] && return 0
  done
  return 1
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

has_pgbouncer() {
  command -v pgbouncer >/dev/null 2>&1 || [ -x /usr/sbin/pgbouncer ]
}

has_prometheus() {
  command -v prometheus >/dev/null 2>&1 && command -v promtool >/dev/null 2>&1
}

has_analyze() {
  # Elsewhere than under Linux there is no unit to be checked, and no package that could do it.
  [ "$(uname)" != Linux ] || command -v systemd-analyze >/dev/null 2>&1
}

# An OTLP receiver that is not ours. It is kept below target/, so nothing of the system changes.
receiver="${CARGO_TARGET_DIR:-target}/tests/rotel"

has_receiver() {
  command -v rotel-agent >/dev/null 2>&1 || [ -x "$receiver/rotel/rotel-agent" ]
}

install_receiver() {
  python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip
  python3 -m pip install --quiet --no-deps --disable-pip-version-check --root-user-action ignore --target "$receiver" rotel==0.0.1a15
}

# The Helm chart is rendered and judged by Python, with packages that are kept below target/ as well.
chart="${CARGO_TARGET_DIR:-target}/tests/chart"

# The list of packages goes in last, so another or none is an older or a broken installation.
has_chart_modules() {
  cmp -s tests/chart/requirements.txt "$chart/requirements.txt"
}

install_chart_modules() {
  python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip
  rm -rf "$chart"
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$chart" -r tests/chart/requirements.txt
  cp tests/chart/requirements.txt "$chart/"
}

# The page is tested in a browser, by Node. What Node needs is kept below tests/page.
has_node() {
  command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1
}

has_chromium() {
  command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1
}

# npm writes its own lockfile at the end of an installation, so an older one is of other packages.
has_page_modules() {
  local done=tests/page/node_modules/.package-lock.json
  [ -f "$done" ] && [ ! tests/page/package-lock.json -nt "$done" ]
}

install_packages() {
  if command -v apt-get >/dev/null; then
    # The programs are enough: no cluster, pooler or Prometheus of the system's own is made or kept running.
    as_root apt-get update
    as_root env DEBIAN_FRONTEND=noninteractive sh -c '
      mkdir -p /etc/postgresql-common/createcluster.d
      echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.d/probe-tests.conf
      apt-get install -y --no-install-recommends "$@"
      for service in pgbouncer prometheus; do
        case " $* " in *" $service "*)
          if [ -d /run/systemd/system ]; then systemctl disable --now "$service"; fi
        esac
      done' apt-get "$@"
  elif command -v dnf >/dev/null; then
    set -- "${@/#postgresql/postgresql-server}"
    as_root dnf install -y "${@/#prometheus/golang-github-prometheus}"
  elif command -v apk >/dev/null; then
    as_root apk add "$@"
  elif command -v pacman >/dev/null; then
    as_root pacman -S --noconfirm "$@"
  elif command -v brew >/dev/null; then
    brew install "$@"
  else
    echo "no package manager known to this script: install $*, then run it again" >&2
    exit 1
  fi
}

if ! command -v cargo >/dev/null; then
  echo "cargo is missing: install Rust (rustup) first" >&2
  exit 1
fi
missing=()
has_postgres || missing+=(postgresql)
has_pgbouncer || missing+=(pgbouncer)
has_prometheus || missing+=(prometheus)
has_analyze || missing+=(systemd)
command -v node >/dev/null 2>&1 || missing+=(nodejs)
command -v npm >/dev/null 2>&1 || missing+=(npm)
has_chromium || missing+=(chromium)
if [ "${#missing[@]}" -gt 0 ]; then
  echo "installing ${missing[*]}, which the tests start for themselves" >&2
  install_packages "${missing[@]}"
  has_postgres || { echo "PostgreSQL was installed, but initdb and postgres were not found" >&2; exit 1; }
  has_pgbouncer || { echo "pgbouncer was installed, but was not found on PATH or in /usr/sbin" >&2; exit 1; }
  has_prometheus || { echo "Prometheus was installed, but prometheus and promtool were not found on PATH" >&2; exit 1; }
  has_node || { echo "Node was installed, but node and npm were not found on PATH" >&2; exit 1; }
  has_chromium || { echo "Chromium was installed, but was not found on PATH" >&2; exit 1; }
fi
if ! has_receiver; then
  echo "installing rotel below $receiver, an OTLP receiver that the tests start for themselves on loopback" >&2
  install_receiver
  has_receiver || { echo "rotel was installed, but rotel-agent was not found in it" >&2; exit 1; }
fi
if ! has_chart_modules; then
  echo "installing what the tests of the Helm chart need below $chart" >&2
  install_chart_modules
fi
if ! has_page_modules; then
  echo "installing what the page's tests need below tests/page" >&2
  npm ci --prefix tests/page --silent --no-audit --no-fund
fi

cargo test --workspace --locked "$@"
