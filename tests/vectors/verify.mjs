// Verify compact JWS documents with npm's `jose`: standard input is {"keys": {kid: jwk}, "documents": [{"token"}]},
// standard output a JSON array, one entry a document: its header and claims, or an error.
import { readFileSync } from "node:fs";
import { compactVerify, importJWK } from "jose";

const { keys, documents } = JSON.parse(readFileSync(0, "utf8"));
const found = [];
for (const { token } of documents) {
  try {
    const { kid } = JSON.parse(Buffer.from(token.split(".")[0], "base64url"));
    const key = await importJWK(keys[kid], "ES256");
    const { payload, protectedHeader } = await compactVerify(token, key, { algorithms: ["ES256"] });
    found.push({ header: protectedHeader, claims: JSON.parse(new TextDecoder().decode(payload)) });
  } catch (error) {
    found.push({ error: String(error) });
  }
}
process.stdout.write(JSON.stringify(found));
