# What the scripts of a release share: names, places and how they talk. Sourced, not run.
# shellcheck shell=bash disable=SC2034

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
# shellcheck source=release/registry.sh
source release/registry.sh

# Where everything is written. What is published is in its folder files.
out=${PINSTREAM_RELEASE_OUT:-target/release-files}
files=$out/files
# One binary and one image of each.
read -ra architectures <<<"${PINSTREAM_RELEASE_ARCHITECTURES:-amd64 arm64}"
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
# The time that all files have, so that the same commit gives the same bytes.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH=$epoch
# What release/tools/build has built goes first.
PATH=$PWD/target/release-tools:$PATH

say() { printf '== %s\n' "$*" >&2; }

die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 2; }

# Each program with the step that brings it.
need() {
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null && continue
    case $program in
      cosign | helm | cargo-*) die "there is no $program: run release/tools/build" ;;
      *) die "there is no $program: install the package of that name" ;;
    esac
  done
}
