// check.mjs FILE…: the resources of Prometheus' operator and of KEDA in rendered manifests, against their definitions: values by the validators
// that were made of the CRDs, unknown fields by the types. Prints how many; fails naming each fault.
import { readFileSync, writeFileSync, rmSync } from "node:fs";
import { join, dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";
import ts from "typescript";

const MODELS = {
  "monitoring.coreos.com/v1": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
  "keda.sh/v1alpha1": "@kubernetes-models/keda/keda.sh/v1alpha1",
};
const home = dirname(fileURLToPath(import.meta.url));
const faults = [];
const typed = [];
let checked = 0;

for (const file of process.argv.slice(2)) {
  for (const document of parseAllDocuments(readFileSync(file, "utf8"))) {
    const resource = document.toJS();
    const model = MODELS[resource?.apiVersion];
    if (!model) continue;
    checked += 1;
    const name = `${file}: ${resource.kind} ${resource.metadata?.name}`;
    const { [resource.kind]: Class } = await import(`${model}/${resource.kind}`);
    try {
      new Class(resource).validate();
    } catch (error) {
      faults.push(`${name}: ${error.message}`);
    }
    typed.push({ name, text: `{ const it: import("${model}/${resource.kind}").I${resource.kind} = ${JSON.stringify(resource)}; void it; }` });
  }
}

// One resource a line: a fault's line says which.
const program = join(home, `.typed-${process.pid}.ts`);
try {
  writeFileSync(program, typed.map(({ text }) => text).join("\n"));
  const options = { noEmit: true, strict: true, skipLibCheck: true, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler, types: [] };
  for (const found of ts.getPreEmitDiagnostics(ts.createProgram([program], options))) {
    const line = found.file?.fileName.endsWith(program) ? found.file.getLineAndCharacterOfPosition(found.start).line : 0;
    faults.push(`${typed[line]?.name}: ${ts.flattenDiagnosticMessageText(found.messageText, "\n")}`);
  }
} finally {
  rmSync(program, { force: true });
}

for (const fault of faults) console.error(fault);
console.log(`${checked} resources of Prometheus' operator and of KEDA${faults.length ? `, ${faults.length} faults` : " are as their definitions say"}`);
process.exit(faults.length ? 1 : 0);
