#!/bin/sh
# Installs mesos-overlay from this archive, or removes it.
#
#   install.sh [DIRECTORY]           installs below DIRECTORY, which is / by default
#   install.sh --remove [DIRECTORY]  removes what it installed
#
# Mesos is neither changed nor restarted. Files of a running Mesos are replaced, not overwritten.
# Configuration below /etc that was changed is kept: the new file then gets the suffix .new. Checksums of
# what was installed, in usr/share/mesos-overlay/installed, tell changed files from those of a former
# version.
set -eu

remove=
if [ "${1:-}" = --remove ]; then
  remove=1
  shift
fi
case $#${1:-} in
  0 | 1[!-]*) ;;
  *)
    echo "usage: install.sh [--remove] [DIRECTORY]" >&2
    exit 2
    ;;
esac
root=${1:-/}
case $root in
  /*) ;;
  *) root=$PWD/$root ;;
esac
root=${root%/}
list=$root/usr/share/mesos-overlay/installed
cd "$(dirname "$0")/files"

sum() { # FILE
  sha256sum < "$1" | cut -d ' ' -f 1
}

is_own() { # FILE: the host's has the content that was installed
  known=
  if [ -e "$list" ]; then known=$(sed -n "s,^\([0-9a-f]*\)  $1\$,\1,p" "$list"); fi
  if [ "$known" ]; then
    [ "$(sum "$root/$1")" = "$known" ]
  else
    cmp -s "$1" "$root/$1"
  fi
}

is_changed() { # FILE: the host has it, with content of somebody else
  [ -e "$root/$1" ] && ! is_own "$1"
}

put() { # FILE TARGET
  mode=644
  case $1 in usr/bin/*) mode=755 ;; esac
  mkdir -p "$root/$(dirname "$1")"
  install -m $mode "$1" "$root/$2.installing"
  mv -f "$root/$2.installing" "$root/$2"
  echo "$(sum "$1")  $2" >> "$list.installing"
}

install_one() { # FILE
  case $1 in etc/*)
    if is_changed "$1" && ! cmp -s "$1" "$root/$1"; then
      echo "$(sum "$1")  $1" >> "$list.installing"
      if is_changed "$1.new"; then
        echo "kept /$1 and /$1.new; the new file is $PWD/$1"
      else
        put "$1" "$1.new"
        echo "kept /$1; the new file is /$1.new"
      fi
      return
    fi
    ;;
  esac
  put "$1" "$1"
}

remove_one() { # FILE
  case $1 in etc/*)
    if is_changed "$1"; then
      echo "kept /$1, which was changed"
      return
    fi
    ;;
  esac
  rm -f "$root/$1"
}

files() {
  find . -type f | sed 's,^\./,,' | sort
}

installed() { # what the host has of this archive, or of the version that was installed last
  if [ -e "$list" ]; then cut -d ' ' -f 3 "$list"; else files; fi
}

umask 022
if [ ! "$remove" ]; then
  mkdir -p "$(dirname "$list")"
  : > "$list.installing"
  files | while read -r file; do install_one "$file"; done
  # Files that this version has no more.
  installed | while read -r file; do
    if ! grep -q "  $file\$" "$list.installing"; then remove_one "$file"; fi
  done
  mv -f "$list.installing" "$list"
  exit
fi
installed | while read -r file; do remove_one "$file"; done
rm -f "$list"
# Directories of ours, and those that nothing is left in.
{ find . -depth -type d -path '*mesos*'; echo usr/share/mesos-overlay; } | while read -r directory; do
  rmdir "$root/$directory" 2>/dev/null || true
done
