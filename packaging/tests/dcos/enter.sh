# Runs a program in a stand-in for DC/OS: /opt/mesosphere, /pkg and /var are directories of the test, /run
# is empty, and everything else is this machine's.
#
# Arguments: directory with mesosphere, pkg and var; program; its arguments. Called in a mount namespace
# of its own.
set -eu
directory=$1
shift
root=/mnt
mount -t tmpfs tmpfs "$root"
for entry in /*; do
  case $entry in
    /mnt | /opt | /pkg | /var | /run) continue ;;
  esac
  if [ -L "$entry" ]; then
    cp -P "$entry" "$root/"
  elif [ -d "$entry" ]; then
    mkdir "$root$entry"
    mount --rbind "$entry" "$root$entry"
  fi
done
mkdir -p "$root/opt/mesosphere" "$root/pkg" "$root/var" "$root/run"
mount --bind "$directory/mesosphere" "$root/opt/mesosphere"
mount --bind "$directory/pkg" "$root/pkg"
mount --bind "$directory/var" "$root/var"
exec chroot "$root" "$@"
