#!/bin/sh
# Installs mesos-overlay from this archive, or removes it.
#
#   install.sh [DIRECTORY]           installs below DIRECTORY, which is / by default
#   install.sh --remove [DIRECTORY]  removes what it installed
#
# Mesos is neither changed nor restarted. Files of a running Mesos are replaced, not overwritten.
# Configuration below /etc that was changed is kept: the new file then gets the suffix .new.
set -eu

remove=
if [ "${1:-}" = --remove ]; then
  remove=1
  shift
fi
root=${1:-/}
root=${root%/}
cd "$(dirname "$0")/files"

is_changed() { # FILE: the host has it, with another content
  [ -e "$root/$1" ] && ! cmp -s "$1" "$root/$1"
}

install_one() { # FILE
  mkdir -p "$root/$(dirname "$1")"
  target=$1
  case $1 in
    etc/*) if is_changed "$1"; then
        target=$1.new
        echo "kept /$1; the new file is /$target"
      fi ;;
  esac
  mode=644
  if [ -x "$1" ]; then mode=755; fi
  install -m $mode "$1" "$root/$target.installing"
  mv -f "$root/$target.installing" "$root/$target"
}

remove_one() { # FILE
  case $1 in
    etc/*) if is_changed "$1"; then
        echo "kept /$1, which was changed"
        return
      fi ;;
  esac
  rm -f "$root/$1" "$root/$1.new"
}

umask 022
find . -type f | sed 's,^\./,,' | sort | while read -r file; do
  if [ "$remove" ]; then remove_one "$file"; else install_one "$file"; fi
done
if [ "$remove" ]; then
  # Directories of ours, and those that nothing is left in.
  find . -depth -type d -path '*mesos*' | while read -r directory; do
    rmdir "$root/$directory" 2>/dev/null || true
  done
fi
