#!/usr/bin/env bash
# The files of deploy/ are what their readers take: syntax, and names that other lines of them use.
# What needs a program that is not here is skipped aloud. Exit 1 if a file is refused.
set -u
cd "$(dirname "$0")/../deploy"
failed=0

refuse() { printf 'deploy/%s is refused:\n%s\n' "$1" "$2" >&2; failed=1; }
skip() { printf 'SKIPPED: %s\n' "$1" >&2; }

if command -v systemd-analyze >/dev/null; then
    # The binary need not be installed where the file is checked.
    unit=$(mktemp -d)
    sed 's|^ExecStart=/usr/local/bin/tribunal|ExecStart=/bin/true|' tribunal-worker.service \
        >"$unit/tribunal-worker.service"
    said=$(systemd-analyze verify --man=no "$unit/tribunal-worker.service" 2>&1 | grep tribunal-worker)
    [ -z "$said" ] || refuse tribunal-worker.service "$said"
    rm -r "$unit"
else
    skip 'the systemd unit: no systemd-analyze'
fi

if python3 -c 'import yaml' 2>/dev/null; then
    for file in compose.yaml kubernetes.yaml; do
        said=$(python3 -c 'import sys, yaml; [_ for _ in yaml.safe_load_all(open(sys.argv[1]))]' "$file" 2>&1) ||
            refuse "$file" "$said"
    done
    # Every object has what the API server asks of any.
    said=$(python3 - 2>&1 <<'PY'
import yaml
for at, item in enumerate(yaml.safe_load_all(open("kubernetes.yaml"))):
    assert item.get("apiVersion") and item.get("kind") and item["metadata"]["name"], f"object {at}"
    pod = item.get("spec", {}).get("template", {}).get("spec")
    for container in (pod or {}).get("containers", []):
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
        assert mounts <= volumes, f"object {at} mounts {mounts - volumes}"
    if item["kind"] == "Deployment":
        labels = item["spec"]["template"]["metadata"]["labels"]
        assert item["spec"]["selector"]["matchLabels"].items() <= labels.items(), "the selector"
PY
    ) || refuse kubernetes.yaml "$said"
    said=$(python3 - 2>&1 <<'PY'
import yaml
services = yaml.safe_load(open("compose.yaml"))["services"]
for name, service in services.items():
    assert "image" in service or "build" in service, f"{name} has no image"
    for other in service.get("depends_on", {}):
        assert other in services, f"{name} depends on {other}"
PY
    ) || refuse compose.yaml "$said"
else
    skip 'compose.yaml and kubernetes.yaml: no Python with yaml'
fi
if docker compose version >/dev/null 2>&1; then
    said=$(POSTGRES_PASSWORD=x TRIBUNAL_API_KEY=x docker compose -f compose.yaml config --quiet 2>&1) ||
        refuse compose.yaml "$said"
else
    skip 'compose.yaml as Compose reads it: no docker compose'
fi

# Every instruction is one, every file that is copied is there, and the build is of this Rust or newer.
said=$(awk '/\\$/ { printf "%s ", substr($0, 1, length - 1); next } { print }' Containerfile |
    grep -vE '^(#|$|(FROM|WORKDIR|COPY|RUN|USER|STOPSIGNAL|ENTRYPOINT|CMD|ENV|ARG|EXPOSE) )')
[ -z "$said" ] || refuse Containerfile "$said"
sed -n 's/^COPY \([^-].*\) [^ ]*$/\1/p' Containerfile | tr ' ' '\n' | while read -r path; do
    [ -e "../$path" ] || echo "no $path to copy"
done | { said=$(cat); [ -z "$said" ] || { refuse Containerfile "$said"; exit 1; }; } || failed=1
rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' ../Cargo.toml)
grep -q "rust:$rust-" Containerfile || refuse Containerfile "it does not build with Rust $rust"

exit $failed
