# shellcheck shell=bash
# Sourced by install.sh: the tools of `make ops-check` (deploy/ops). Go's programs are built of the pinned version, whose checksum is in Go's own
# database; what a wheel has ready comes as a wheel, by its hash.

# go_tool NAME PACKAGE VERSION: into $ASTROMECH_CACHE/NAME/VERSION/NAME.
go_tool() {
  local name=$1 target=$ASTROMECH_CACHE/$1/$3 go
  if [ -x "$target/$name" ]; then
    log "$name: is there"
    return
  fi
  if [ -z "$(go_command)" ]; then apt_install "Go, for $name" golang-go; fi
  go=$(go_command)
  log "building $name $3"
  GOBIN="$TMP/tree" "$go" install "$2@v$3" ||
    die "Go could not build $name" "check the network and GOPROXY; Go must be 1.21 or newer, this is: $("$go" version)"
  place "$name" "$TMP/tree" "$target"
}

# wheel_tool NAME PATH: the program in the wheel of pins/ops/NAME.txt, into $ASTROMECH_CACHE/NAME/PATH.
wheel_tool() {
  wheels "$1" "ops/$1.txt" "$ASTROMECH_CACHE/$1" "$2"
  chmod +x "$ASTROMECH_CACHE/$1/$2"
}

install_helm() { go_tool helm helm.sh/helm/v3/cmd/helm "$HELM_VERSION"; }
install_actionlint() { go_tool actionlint github.com/rhysd/actionlint/cmd/actionlint "$ACTIONLINT_VERSION"; }
install_hadolint() { wheel_tool hadolint "$HADOLINT"; }
install_shellcheck() { wheel_tool shellcheck "$SHELLCHECK"; }
install_cargo-audit() { wheel_tool cargo-audit "$CARGO_AUDIT"; }

# kubeconform, the schemas of Kubernetes, and the definitions of Prometheus' operator and of KEDA.
install_kubeconform() {
  go_tool kubeconform github.com/yannh/kubeconform/cmd/kubeconform "$KUBECONFORM_VERSION"
  local schemas=$ASTROMECH_CACHE/kubernetes-schemas version complete=1
  for version in "${KUBERNETES_VERSIONS[@]}"; do [ -f "$schemas/v$version/_definitions.json" ] || complete=0; done
  if [ $complete = 1 ]; then
    log 'kubernetes-schemas: are there'
  else
    wheels kubernetes-validate ops/kubernetes.txt "$TMP/wheel" kubernetes_validate/version.py
    python3 "$LOCAL_DIR/pins/ops/kubernetes.py" "$TMP/wheel/kubernetes_validate/kubernetes-json-schema" "$TMP/schemas" "${KUBERNETES_VERSIONS[@]}"
    place kubernetes-schemas "$TMP/schemas" "$schemas"
  fi
  npm_check operators 'the definitions of the operators'
}

# promtool out of the distribution's package, which apt has checked; unpacked, since installing it would start a server.
install_promtool() {
  local target=$ASTROMECH_CACHE/promtool
  if [ -x "$target/usr/bin/promtool" ]; then
    log 'promtool: is there'
    return
  fi
  have apt-get || die 'promtool is missing, and this system has no apt' "put a promtool 2.42 or newer into $target/usr/bin"
  mkdir "$TMP/deb"
  # Root's apt hands downloads to a user of its own, who must be let in.
  chmod 755 "$TMP" && chmod 777 "$TMP/deb"
  (cd "$TMP/deb" && { apt-get -qq download prometheus 2>/dev/null || { apt_update && apt-get -qq download prometheus; }; }) ||
    die 'apt could not fetch the package prometheus, which has promtool' 'look at: apt-get download prometheus'
  dpkg-deb -x "$TMP"/deb/prometheus_*.deb "$TMP/tree"
  place promtool "$TMP/tree" "$target"
}

# The loader of Docker Compose itself, with a main of 30 lines (pins/compose).
install_compose() {
  local pins=$LOCAL_DIR/pins/compose target=$ASTROMECH_CACHE/compose file complete=1 go
  for file in go.mod go.sum main.go; do cmp -s "$pins/$file" "$target/$file" || complete=0; done
  if [ $complete = 1 ] && [ -x "$target/compose-config" ]; then
    log 'compose: is there'
    return
  fi
  if [ -z "$(go_command)" ]; then apt_install 'Go, for the loader of Docker Compose' golang-go; fi
  go=$(go_command)
  mkdir "$TMP/tree"
  cp "$pins"/* "$TMP/tree"
  (cd "$TMP/tree" && "$go" build -mod=readonly -o compose-config .) ||
    die 'Go could not build the loader of Docker Compose' "check the network and GOPROXY; Go must be 1.21 or newer, this is: $("$go" version)"
  place compose "$TMP/tree" "$target"
}
