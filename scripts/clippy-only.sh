#!/usr/bin/env bash
# A wrapper of rustc for cargo (RUSTC_WORKSPACE_WRAPPER): the workspace's crates are only looked at by
# clippy, no code is made. Unlike `cargo clippy`, whose dependencies are compiled once more as
# metadata, this takes the dependencies that a build has left: without it a first `make test` reads
# through the SQL engine twice.
set -euo pipefail
# As `cargo clippy -- -D warnings` hands it over.
export CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__
arguments=()
for argument in "$@"; do
  case $argument in
  --emit=*link*) argument=--emit=dep-info,metadata ;;
  # A crate of the workspace that was only looked at.
  *=*.rlib) [ -e "${argument#*=}" ] || argument=${argument%.rlib}.rmeta ;;
  esac
  arguments+=("$argument")
done
exec clippy-driver "${arguments[@]}"
