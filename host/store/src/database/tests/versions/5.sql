-- The shape of version 5, which knows what code works with a snapshot.
CREATE TABLE agents (
   id          TEXT PRIMARY KEY,
   wanted      INTEGER NOT NULL,
   incarnation INTEGER NOT NULL,
   restarts    TEXT NOT NULL,
   changed_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- Apart from the rest: they are large and change seldom.
CREATE TABLE agent_texts (
   id          TEXT PRIMARY KEY,
   order_text  TEXT,
   settings    TEXT
) STRICT;
CREATE TABLE facts (
   name        TEXT PRIMARY KEY,
   value       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE snapshots (
   generation  INTEGER PRIMARY KEY AUTOINCREMENT,
   agent_id    TEXT NOT NULL,
   incarnation INTEGER NOT NULL,
   taken_at    INTEGER NOT NULL,
   sha256      BLOB NOT NULL,
   failures    INTEGER NOT NULL DEFAULT 0,
   set_aside   TEXT,
   size        INTEGER NOT NULL,
   bytes       BLOB NOT NULL
) STRICT;
CREATE INDEX snapshots_of_agent ON snapshots (agent_id, generation, size);
CREATE TABLE crashes (
   seq         INTEGER PRIMARY KEY AUTOINCREMENT,
   crash_id    TEXT NOT NULL UNIQUE,
   agent_id    TEXT NOT NULL,
   reason      TEXT NOT NULL,
   fingerprint TEXT NOT NULL,
   crashed_at  INTEGER NOT NULL,
   size        INTEGER NOT NULL
) STRICT;
-- Apart from what is searched: ten thousand rows without their texts are a megabyte, read through in a
-- millisecond, and a storm of crashes has no indexes to keep but one.
CREATE TABLE crash_texts (
   seq         INTEGER PRIMARY KEY,
   record      TEXT NOT NULL
) STRICT;
ALTER TABLE agents ADD COLUMN town_knows INTEGER NOT NULL DEFAULT 0;
ALTER TABLE crashes ADD COLUMN ran_ms INTEGER NOT NULL DEFAULT 0;
CREATE TABLE model_usage (
   agent_id         TEXT NOT NULL,
   role             TEXT NOT NULL,
   endpoint         TEXT NOT NULL,
   model            TEXT NOT NULL,
   calls            INTEGER NOT NULL,
   failed           INTEGER NOT NULL,
   input_tokens     INTEGER NOT NULL,
   cached_tokens    INTEGER NOT NULL,
   output_tokens    INTEGER NOT NULL,
   reasoning_tokens INTEGER NOT NULL,
   cost_nano        INTEGER NOT NULL,
   last_at          INTEGER NOT NULL,
   PRIMARY KEY (agent_id, role, endpoint, model)
) STRICT, WITHOUT ROWID;
CREATE TABLE model_usage_days (
   role      TEXT PRIMARY KEY,
   day       INTEGER NOT NULL,
   tokens    INTEGER NOT NULL,
   cost_nano INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
ALTER TABLE snapshots ADD COLUMN code BLOB;
PRAGMA user_version = 5;

INSERT INTO agents (id, wanted, incarnation, restarts, changed_at, town_knows)
VALUES ('ann', 1, 7, '{"ends":[],"streak":2,"quarantine":null}', 1768469400000, 2),
       ('bob', 0, 3, '{}', 1768469400000, 2);
INSERT INTO agent_texts VALUES ('ann', '{"agentId":"ann","role":"mayor"}', '{"model":"small"}');
INSERT INTO facts VALUES ('forgotten_incarnation', 41);
INSERT INTO snapshots (generation, agent_id, incarnation, taken_at, sha256, size, bytes, code)
VALUES (5, 'ann', 7, 1768469400000, X'4ba69735ca53765ed6a709edb56c6ea236b7193a3b29a6b390c346f0f4340e4e', 5, CAST('state' AS BLOB), zeroblob(32));
INSERT INTO crashes (seq, crash_id, agent_id, reason, fingerprint, crashed_at, size, ran_ms)
VALUES (9, 'c00001', 'ann', 'panic', 'f1', 1768469401000, 809, 60000);
INSERT INTO crash_texts VALUES (9, '{"crashId":"c00001","agentId":"ann","role":"mayor","name":"Ann","rigId":null,"townId":null,"runId":"run-1","incarnation":7,"startAttempt":1,"component":"mayor","componentSha256":null,"reason":"panic","trap":"unreachable","message":"it went wrong","location":null,"status":null,"code":null,"requestedBytes":null,"fingerprint":"f1","deterministic":"unknown","frames":[],"symbolized":"done","startedAt":"2026-01-15T09:30:00.000Z","crashedAt":"2026-01-15T09:30:01.000Z","agentUptimeMs":1000,"phase":"handle","messageId":null,"hostCall":null,"resources":{"memoryBytes":1,"memoryPeakBytes":2,"memoryLimitBytes":3,"softLimitCrossed":false,"deniedGrowths":0,"cpuUs":5,"turns":6,"hostCalls":7,"mailboxDepth":0},"lastLogLines":["one"],"activeTools":[],"activeAgents":1,"consequence":{"decision":"none"},"coreDump":null}');
INSERT INTO model_usage VALUES ('ann', 'mayor', 'main', 'small', 2, 1, 7, 3, 5, 1, 9, 1768469402000);
INSERT INTO model_usage_days VALUES ('', 20468, 12, 9);
