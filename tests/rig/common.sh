# What the set-ups of the rig and of the node share. The system's apt is asked for its mirrors and keys but
# not altered: lists and downloads stay under $APT, the caller's folder.

say() { echo "$(basename "$here"): $*" >&2; }
die() { say "$*"; exit 1; }
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }

# Debian's repositories as this machine's own apt names them: "URI release component" per line.
sources() {
  . /etc/os-release
  [ "$ID" = debian ] || die "this set-up knows Debian only; this is $PRETTY_NAME"
  local named
  # apt names only what it has a list of: none where the lists were deleted, as in most containers.
  for _ in 1 2; do
    named=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' \
      | awk -v c="$VERSION_CODENAME" '$2 ~ "^"c && $3 == "main"' | sort -u)
    [ -z "$named" ] || break
    as_root apt-get update -q >&2
  done
  [ -n "$named" ] || die "apt knows no repository of Debian $VERSION_CODENAME (apt-get indextargets)"
  echo "$named"
}

# apt NAME ARCH STATUS command...: apt with its own sources, lists and downloads under $APT/NAME.
private_apt() {
  local view=$APT/$1 arch=$2 status=$3 command=$4
  shift 4
  mkdir -p "$view"/{lists/partial,cache/archives/partial,empty}
  : > "$view/none"
  [ -n "$status" ] || status=$view/none
  "$command" -q -o Dir::Etc::SourceList="$view/sources.list" -o Dir::Etc::SourceParts="$view/empty" \
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts="$view/empty" \
    -o Dir::State::Lists="$view/lists" -o Dir::State::Status="$status" \
    -o Dir::Cache="$view/cache" -o APT::Architecture="$arch" -o APT::Architectures::="$arch" \
    -o APT::Sandbox::User=root -o APT::Install-Recommends=false "$@"
}

# copy_modules RIG ROOT module...: of the rig's kernel, with all that they need, into a root file system.
copy_modules() {
  local rig=$1 root=$2 version modules tree module file to
  shift 2
  version=$(basename "$rig"/kernel/boot/vmlinuz-* | sed 's/^vmlinuz-//')
  modules=$(find "$rig/kernel" -type d -path "*/lib/modules/$version")
  # kmod resolves what each module needs; only those are copied.
  tree=$(mktemp -d)
  mkdir -p "$tree/lib/modules/$version" "$root/lib/modules/$version"
  cp "$modules"/modules.{builtin,order,builtin.modinfo} "$tree/lib/modules/$version"
  ln -s "$modules/kernel" "$tree/lib/modules/$version/kernel"
  depmod -b "$tree" "$version"
  for module in "$@"; do
    modprobe -d "$tree" -S "$version" --show-depends "$module" 2>/dev/null | awk '$1 == "insmod" {print $2}'
  done | sort -u | while read -r file; do
    to=$root/lib/modules/$version/${file#*/modules/"$version"/}
    mkdir -p "$(dirname "$to")"
    case $file in *.xz) xz -dc "$file" > "${to%.xz}" ;; *) cp "$file" "$to" ;; esac
  done
  cp "$modules"/modules.{builtin,order,builtin.modinfo} "$root/lib/modules/$version"
  depmod -b "$root" "$version"
  rm -rf "$tree"
}
