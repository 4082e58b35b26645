#!/bin/sh
# Looks for what building moerun needs and, where apt and root (or sudo) are
# there, installs what is missing. What is there is found by itself, not by the
# name of a package: by running the tools and compiling against the libraries,
# on PATH, CPATH, LIBRARY_PATH, PKG_CONFIG_PATH and CMAKE_PREFIX_PATH, as
# modules, Spack and Conda set them. Where nothing can be installed, one line
# says what is missing. With --test also what ./launch/test.sh uses.
set -eu

# One row for each requirement: who asks for it (all: both commands; test: the
# tests alone), whether it is needed or left out where it is missing, its name,
# how it is looked for (a function below), and the package on Debian.
requirements() {
  cat << 'END'
all  need C11 compiler    | compiler                             | gcc libc6-dev
all  need make            | make_program                         | make
all  need CMake 3.25      | cmake_version 3 25                   | cmake
all  need MPI 3.1         | mpi                                  | libopenmpi-dev
all  need mpirun          | tool mpirun                          | openmpi-bin
all  need Jansson 2.12    | library jansson 2.12 jansson.h       | libjansson-dev
all  need xxHash 0.8      | library libxxhash 0.8 xxhash.h       | libxxhash-dev
all  need PCRE2 10.40     | library libpcre2-8 10.40 pcre2.h     | libpcre2-dev
all  need utf8proc 2.5    | library libutf8proc 2.5 utf8proc.h   | libutf8proc-dev
test need cmocka 1.1      | library cmocka 1.1 cmocka.h          | libcmocka-dev
test need pkg-config      | tool pkg-config                      | pkg-config
test want GLPK 4.65       | library glpk 4.65 glpk.h             | libglpk-dev
test want OpenBLAS        | library openblas 0.3 cblas.h         | libopenblas-dev
test want clang-format    | tool clang-format                    | clang-format
test want clang-tidy      | tool clang-tidy                      | clang-tidy
END
}

for_tests=
if [ "${1:-}" = --test ] && [ $# = 1 ]; then
  for_tests=1
elif [ $# -gt 0 ]; then
  echo "usage: ./launch/setup.sh [--test]" >&2
  exit 2
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

# ---- How things are looked for -------------------------------------------------

# Folders of CMAKE_PREFIX_PATH, as flags of a compiler and for pkg-config.
flags=
for prefix in $(echo "${CMAKE_PREFIX_PATH:-}" | tr ':;' '  '); do
  flags="$flags -I$prefix/include -L$prefix/lib -L$prefix/lib64"
  for folder in lib lib64 share; do
    PKG_CONFIG_PATH=${PKG_CONFIG_PATH:+$PKG_CONFIG_PATH:}$prefix/$folder/pkgconfig
  done
done
export PKG_CONFIG_PATH="${PKG_CONFIG_PATH:-}"

tool() { command -v "$1" > /dev/null; }

make_program() {
  case ${CMAKE_GENERATOR:-} in
  Ninja*) tool ninja ;;
  *) tool make || tool gmake ;;
  esac
}

cc=${CC:-}
for name in cc gcc clang; do
  [ -n "$cc" ] || ! tool $name || cc=$name
done

# builds COMPILER HEADER FLAG...: whether a program with the header links.
builds() {
  with=$1 header=$2
  shift 2
  {
    echo '#include <stdarg.h>'
    echo '#include <stddef.h>'
    echo '#include <stdint.h>'
    echo '#include <setjmp.h>'
    echo '#define PCRE2_CODE_UNIT_WIDTH 8'
    echo "#include <$header>"
    echo '_Static_assert(sizeof(int) >= 4, "int");'
    echo 'int main(void) { return 0; }'
  } > "$scratch/look.c"
  # shellcheck disable=SC2086 # lists of words
  $with -std=c11 "$scratch/look.c" -o "$scratch/look" $flags "$@" \
    > "$scratch/log" 2>&1
}

compiler() { [ -n "$cc" ] && builds "$cc" stdio.h; }

cmake_version() {
  version=$(cmake --version 2> /dev/null |
    sed -n 's/^cmake version \([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
  [ -n "$version" ] || return 1
  [ "${version% *}" -gt "$1" ] ||
    { [ "${version% *}" -eq "$1" ] && [ "${version#* }" -ge "$2" ]; }
}

# By its compiler, or where the compiler itself knows it (Cray).
mpi() {
  for wrapper in ${MPI_HOME:+"$MPI_HOME/bin/mpicc"} mpicc $cc; do
    if tool "$wrapper" && builds "$wrapper" mpi.h; then return 0; fi
  done
  return 1
}

# library NAME VERSION HEADER: by pkg-config, where that knows it, else by
# compiling with it.
library() {
  if tool pkg-config && pkg-config --exists "$1" 2> /dev/null; then
    pkg-config --exists "$1 >= $2"
    return
  fi
  [ -n "$cc" ] && builds "$cc" "$3" "-l${1#lib}"
}

# ---- What is missing -------------------------------------------------------------

# Fills needed and wanted (names, with commas) and packages (all of them).
look() {
  needed='' wanted='' packages=''
  while IFS='|' read -r what check package; do
    # shellcheck disable=SC2086
    set -- $what
    who=$1 degree=$2
    shift 2
    [ "$who" = all ] || [ -n "$for_tests" ] || continue
    # shellcheck disable=SC2086
    if $check; then continue; fi
    if [ "$degree" = need ]; then
      needed="$needed${needed:+, }$*"
    else
      wanted="$wanted${wanted:+, }$*"
    fi
    packages="$packages ${package# }"
  done << END
$(requirements)
END
  packages=${packages# }
}

as_root=
can_install() {
  tool apt-get || return 1
  [ "$(id -u)" != 0 ] || return 0
  as_root=sudo
  tool sudo
}

install() {
  # shellcheck disable=SC2086 # lists of words
  $as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends $packages
}

look
[ -n "$packages" ] || exit 0
if can_install; then
  echo "setup: installing $packages" >&2
  # The package lists may be absent or outdated; fetch them only then.
  { install || { $as_root apt-get update -qq && install; }; } \
    > "$scratch/log" 2>&1 || grep '^E: ' "$scratch/log" | tail -n 1 >&2 || true
  look
fi
if [ -n "$needed" ]; then
  echo "setup: missing: $needed (Debian: $packages); install them, or load" \
    "them so that PATH, CMAKE_PREFIX_PATH or PKG_CONFIG_PATH lead there;" \
    "README.md lists what is needed" >&2
  exit 1
fi
[ -z "$wanted" ] || echo "setup: going on without $wanted (Debian:" \
  "$packages): what uses them is left out" >&2
