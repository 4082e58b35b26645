#!/bin/sh
# Installs what building moerun needs on Debian or Ubuntu, and nothing that is
# there already. With --test also what the checks of ./launch/test.sh use.
set -eu

build_packages="build-essential cmake pkg-config libopenmpi-dev openmpi-bin
  libjansson-dev libcmocka-dev libopenblas-dev libglpk-dev"
test_packages="clang-format clang-tidy"

packages=$build_packages
if [ "${1:-}" = --test ]; then
  packages="$packages $test_packages"
elif [ $# -gt 0 ]; then
  echo "usage: ./launch/setup.sh [--test]" >&2
  exit 2
fi

missing=
for package in $packages; do
  if ! dpkg-query -W -f '${Status}' "$package" 2> /dev/null |
    grep -q 'ok installed'; then
    missing="$missing $package"
  fi
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
  command -v sudo > /dev/null || {
    echo "setup: root or sudo is needed to install:$missing" >&2
    exit 1
  }
  as_root=sudo
fi
install() {
  # shellcheck disable=SC2086 # lists of words
  $as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends $missing
}

echo "setup: installing$missing" >&2
# The package lists may be absent or outdated; fetch them only then.
install > /dev/null 2>&1 || {
  $as_root apt-get update -qq
  install > /dev/null
}
