// The client asks whether this is an Enterprise server, which it serves otherwise; where the test has its forge says nothing.
process.env.GITHUB_SERVER_URL = 'https://github.com'
const { DefaultArtifactClient } = await import(`${process.env.TEST_ARTIFACT_CLIENT}/lib/artifact.js`)
const client = new DefaultArtifactClient()
const { artifact } = await client.getArtifact(process.env.INPUT_NAME)
await client.downloadArtifact(artifact.id, { path: process.env.INPUT_PATH })
console.log(`downloaded ${artifact.name}`)
