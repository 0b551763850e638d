# What the scripts of a release read from registries, and believe only if it has the digest that it must have. Sourced, not run.
# shellcheck shell=bash

# The digest of what standard input has.
sha256() {
  local sum
  sum=$(sha256sum | cut -d ' ' -f 1) || return
  printf 'sha256:%s\n' "$sum"
}

# The digest of what an address has, as skopeo spells addresses; further arguments go to skopeo.
digest() { skopeo inspect --raw "$@" | sha256; }

# The manifest with digest $1 at an address; further arguments go to skopeo.
manifest() {
  local wanted=$1 encoded
  shift
  # A variable would not keep the line breaks at its end.
  encoded=$(skopeo inspect --raw "$@" | base64 --wrap=0) || return
  [[ $(base64 --decode <<<"$encoded" | sha256) == "$wanted" ]] || return
  base64 --decode <<<"$encoded"
}

# Of an index on standard input, the digest of what it has for Linux and architecture $1.
platform_digest() {
  jq -er --arg architecture "$1" '[.manifests[] | select(.platform.os == "linux" and .platform.architecture == $architecture)]
    | select(length == 1) | .[0].digest'
}

# Whether the manifest on standard input is of a chart, and that is file $1.
has_chart() { jq -e --arg chart "$(sha256 <"$1")" '[.layers[].digest] == [$chart]' >/dev/null; }

# Registries on loopback are asked over plain HTTP.
is_plain() { [[ $1 =~ ^(localhost|127\.0\.0\.1)[:/] ]]; }
