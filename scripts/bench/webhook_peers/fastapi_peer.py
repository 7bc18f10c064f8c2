"""A FastAPI receiver that keeps each delivery before it answers: one row, synchronous=FULL, its id unique."""

import hashlib
import hmac
import os
import sqlite3

from fastapi import FastAPI, Request, Response

app = FastAPI()
secret = os.environ["SECRET"].encode()
database = sqlite3.connect(os.environ["DATABASE"], isolation_level=None, check_same_thread=False)
database.execute("PRAGMA journal_mode = WAL")
database.execute("PRAGMA synchronous = FULL")
database.execute("CREATE TABLE IF NOT EXISTS deliveries (id TEXT PRIMARY KEY, event TEXT, body BLOB)")


@app.post("/webhooks/github", status_code=202)
async def webhook(request: Request):
    body = await request.body()
    signed = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(signed, request.headers.get("x-hub-signature-256", "")):
        return Response(status_code=401)
    row = (request.headers["x-github-delivery"], request.headers["x-github-event"], body)
    database.execute("INSERT INTO deliveries VALUES (?, ?, ?) ON CONFLICT DO NOTHING", row)
    return {"status": "accepted"}
