// Cuts GitHub's OpenAPI description down to the operations this project calls.
//   npm pack @octokit/openapi && tar xzf octokit-openapi-*.tgz
//   node cut.mjs package/generated/api.github.com.json > github.json
import { readFileSync } from "node:fs";

const operations = [
  ["/user", ["get"]],
  ["/users/{username}", ["get"]],
  ["/repos/{owner}/{repo}/pulls", ["get"]],
  ["/repos/{owner}/{repo}/pulls/{pull_number}", ["get"]],
  ["/repos/{owner}/{repo}/commits/{commit_sha}/pulls", ["get"]],
  ["/repos/{owner}/{repo}/issues/{issue_number}/comments", ["get", "post"]],
  ["/repos/{owner}/{repo}/issues/comments/{comment_id}", ["patch", "delete"]],
  ["/repos/{owner}/{repo}/issues/comments/{comment_id}/reactions", ["post"]],
  ["/repos/{owner}/{repo}/issues/comments/{comment_id}/reactions/{reaction_id}", ["delete"]],
  ...["/orgs/{org}", "/users/{username}"].flatMap((owner) => [
    [owner + "/packages/{package_type}/{package_name}/versions", ["get"]],
    [owner + "/packages/{package_type}/{package_name}/versions/{package_version_id}", ["delete"]],
  ]),
];

const all = JSON.parse(readFileSync(process.argv[2]));
const cut = {
  openapi: all.openapi,
  info: { ...all.info, description: "Cut to a few operations by cut.mjs; descriptions left out." },
  servers: [{ url: "/" }],
  paths: {},
  components: {},
};

// Answers as GitHub gives them; the test server starts from these.
const samples = ["pull-request", "pull-request-simple-items", "issue-comment", "reaction", "public-user-default-response", "package-version-org"];

const dropped = new Set(["description", "examples", "example", "externalDocs", "tags", "summary"]);

// In a map of properties, "tags" is a name like any other.
function keep(node, inProperties = false) {
  if (Array.isArray(node)) return node.map((n) => keep(n));
  if (node === null || typeof node !== "object") return node;
  if (node.$ref) {
    const [, , kind, name] = node.$ref.split("/");
    cut.components[kind] ??= {};
    if (!(name in cut.components[kind])) {
      cut.components[kind][name] = true; // a cycle ends here
      cut.components[kind][name] = keep(all.components[kind][name]);
    }
    return { $ref: node.$ref };
  }
  const out = {};
  for (const [key, value] of Object.entries(node)) {
    if (!inProperties && (dropped.has(key) || key.startsWith("x-"))) continue;
    out[key] = keep(value, key === "properties" && !inProperties);
  }
  return out;
}

for (const [path, methods] of operations) {
  cut.paths[path] = {};
  for (const method of methods) {
    const op = keep(all.paths[path][method]);
    for (const r of Object.values(op.responses)) if (!r.$ref) r.description ??= "";
    cut.paths[path][method] = op;
  }
}
for (const r of Object.values(cut.components.responses ?? {})) r.description ??= "";
cut.components.examples = {};
for (const name of samples) {
  const sample = all.components.examples[name];
  if (sample) cut.components.examples[name] = sample;
  else process.stderr.write("no sample " + name + "\n");
}
process.stdout.write(JSON.stringify(cut, null, 1) + "\n");
