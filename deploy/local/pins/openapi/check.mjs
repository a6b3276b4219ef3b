// node check.mjs DOCUMENT: whether DOCUMENT is a right OpenAPI 3.1 document; prints every mistake, one a line. The document itself is
// checked by @seriousme/openapi-schema-validator against the OpenAPI Initiative's schema, each schema in it by ajv against JSON Schema
// 2020-12, and every reference must lead somewhere.
import { readFileSync } from "node:fs";
import { Validator } from "@seriousme/openapi-schema-validator";
import Ajv2020 from "ajv/dist/2020.js";

const document = JSON.parse(readFileSync(process.argv[2], "utf8"));
const mistakes = [];
const report = (where, errors) => mistakes.push(...errors.map((e) => `${where}${e.instancePath ?? ""}: ${e.message}`));

const { valid, errors } = await new Validator().validate(structuredClone(document));
if (!valid) report("", Array.isArray(errors) ? errors : [{ message: String(errors) }]);

const ajv = new Ajv2020.default({ strict: false, allErrors: true });
const escaped = (key) => key.replaceAll("~", "~0").replaceAll("/", "~1");
function walk(value, where) {
	if (value === null || typeof value !== "object") return;
	if (typeof value.$ref === "string" && target(value.$ref) === undefined) mistakes.push(`${where}: ${value.$ref} leads nowhere`);
	for (const [key, child] of Object.entries(value)) {
		const path = `${where}/${escaped(key)}`;
		if (key === "schema" || where === "/components/schemas") {
			if (!ajv.validateSchema(child)) report(path, ajv.errors);
		}
		walk(child, path);
	}
}
function target(reference) {
	if (!reference.startsWith("#/")) return undefined;
	const keys = reference.slice(2).split("/").map((key) => decodeURIComponent(key).replaceAll("~1", "/").replaceAll("~0", "~"));
	return keys.reduce((value, key) => value?.[key], document);
}
walk(document, "");

for (const mistake of mistakes) console.log(mistake);
process.exit(mistakes.length ? 1 : 0);
