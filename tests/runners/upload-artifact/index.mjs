import fs from 'node:fs'
import path from 'node:path'
// The client asks whether this is an Enterprise server, which it serves otherwise; where the test has its forge says nothing.
process.env.GITHUB_SERVER_URL = 'https://github.com'
const { DefaultArtifactClient } = await import(`${process.env.TEST_ARTIFACT_CLIENT}/lib/artifact.js`)
const files = []
for (const given of process.env.INPUT_PATH.split('\n').map(line => line.trim()).filter(Boolean)) {
  if (!fs.existsSync(given)) continue
  if (!fs.statSync(given).isDirectory()) files.push(path.resolve(given))
  else for (const name of fs.readdirSync(given, { recursive: true })) {
    const file = path.resolve(given, name)
    if (fs.statSync(file).isFile()) files.push(file)
  }
}
if (files.length === 0) {
  console.log(`::warning::no files at ${process.env.INPUT_PATH}`)
  process.exit(process.env['INPUT_IF-NO-FILES-FOUND'] === 'error' ? 1 : 0)
}
// Like GitHub's: paths in the artifact begin below what all files have in common.
let root = path.dirname(files[0])
while (!files.every(file => file.startsWith(root + path.sep))) root = path.dirname(root)
const told = await new DefaultArtifactClient().uploadArtifact(process.env.INPUT_NAME, files, root)
console.log(`uploaded ${files.length} files, ${told.size} bytes`)
