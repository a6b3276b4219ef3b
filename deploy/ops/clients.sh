#!/usr/bin/env bash
# A Python and a TypeScript client, made from the openapi.json of a running daemon by other people's generators, search, embed and re-score.
. "$(dirname "${BASH_SOURCE[0]}")/daemon.sh"
start_daemon
export KEY URL

python_tools openapi-python-client
PATH=$TOOLS:$PATH openapi-python-client generate --url "$URL/openapi.json" --output-path "$WORK/astromech_client" --meta none >"$WORK/python.log" 2>&1 ||
  { cat "$WORK/python.log" >&2; die 'no Python client could be made from openapi.json' 'say it in a way that generators know'; }
PYTHONPATH=$WORK PYTHONDONTWRITEBYTECODE=1 "$TOOLS/python" "$OPS_DIR/clients/client.py" "$ROOT/configs/demo/set/pictures"

node_tools typescript
cp "$OPS_DIR/clients/client.ts" "$WORK/client.ts"
ln -s "$TOOLS/node_modules" "$WORK/node_modules"
printf '{"type": "module"}\n' >"$WORK/package.json"
"$TOOLS/node_modules/.bin/openapi-typescript" "$URL/openapi.json" --output "$WORK/api.d.ts" >"$WORK/typescript.log" 2>&1 ||
  { cat "$WORK/typescript.log" >&2; die 'no TypeScript client could be made from openapi.json'; }
"$TOOLS/node_modules/.bin/tsc" --strict --target es2022 --module nodenext --moduleResolution nodenext --types node --typeRoots "$TOOLS/node_modules/@types" --skipLibCheck --outDir "$WORK/js" "$WORK/client.ts" ||
  die 'the TypeScript client does not compile'
node "$WORK/js/client.js"
echo 'two generated clients: search, embed, re-score, media, a problem'
