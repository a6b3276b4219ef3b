#!/usr/bin/env bash
# The Dockerfiles by hadolint (deploy/docker/hadolint.yaml says what is left out, and why).
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need hadolint

for file in deploy/docker/Dockerfile deploy/docker/Dockerfile.trainer; do
  holds "$file" "$ASTROMECH_CACHE/hadolint/$HADOLINT" --config deploy/docker/hadolint.yaml --no-color "$file"
done
# The same libraries are looked for where the unit of systemd runs the job.
path=$(sed -n 's/.*LD_LIBRARY_PATH=\([^ ]*\).*/\1/p' deploy/docker/Dockerfile.trainer)
has 'the library path of astromech-refresh.service is that of the image' deploy/systemd/astromech-refresh.service "LD_LIBRARY_PATH=$path"
summary Dockerfiles
