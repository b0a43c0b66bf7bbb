// Reads YAML documents (YAML 1.2, as Kubernetes' tools do) and prints them as one JSON list:
//   node read_yaml.mjs TOOLS < FILE
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const { loadAll } = await import(pathToFileURL(join(process.argv[2], "node_modules/js-yaml/dist/js-yaml.mjs")));
console.log(JSON.stringify(loadAll(readFileSync(0, "utf8")).filter((document) => document)));
