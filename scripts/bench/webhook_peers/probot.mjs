// A Probot app that keeps each delivery before it answers: one row, synchronous=FULL, its id unique.
import { Probot, Server } from "probot";
import Database from "better-sqlite3";
import { generateKeyPairSync } from "node:crypto";

const database = new Database(process.env.DATABASE);
database.pragma("journal_mode = WAL");
database.pragma("synchronous = FULL");
database.exec("CREATE TABLE IF NOT EXISTS deliveries (id TEXT PRIMARY KEY, event TEXT, body TEXT)");
const insert = database.prepare("INSERT INTO deliveries VALUES (?, ?, ?) ON CONFLICT DO NOTHING");
const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const server = new Server({
  port: Number(process.env.PORT),
  host: "127.0.0.1",
  Probot: Probot.defaults({
    appId: 1,
    privateKey: privateKey.export({ type: "pkcs1", format: "pem" }),
    secret: process.env.SECRET,
    logLevel: "fatal",
  }),
});
await server.load((app) => {
  app.on("issue_comment", (context) => {
    insert.run(context.id, context.name, JSON.stringify(context.payload));
  });
});
await server.start();
