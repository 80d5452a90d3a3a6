//! `[ship]`.

use super::{Key, derived};

pub const SHIP: &[Key] = &[
    derived(
        "to",
        "none: the state stays on this disk",
        "where the database of a town with a [lease](#lease) is shipped, so that a copy on another machine goes on with it, see \
         [operating.md](operating.md#state-that-travels): `file:///directory` (it must exist), `s3://bucket/prefix` (S3, or what \
         speaks it and honours conditional writes), `nats://host:4222,host:4222/bucket` (`tls://` with TLS; a key-value bucket of \
         JetStream, which must exist). All copies of the town name the same. The variable discards the file's \
         key, which belongs to another place",
    )
    .text("BULKHEAD_SHIP_TO", |file, text| {
        file.ship.move_to(text);
        Ok(())
    }),
    derived(
        "interval_ms",
        "`1000`",
        "how long a commit waits for others that are shipped with it. What an answer waits for is shipped at once",
    ),
    derived(
        "wait_ms",
        "`5000`",
        "how long a start, a stop, or a turn that somebody waits for, of a role with `durable = \"fleet\"` waits to be shipped, and the end of the host for the rest",
    ),
    derived("call_ms", "`10000`", "how long one object may take, for each MiB that is written; reading one may take four times as long"),
    derived(
        "restore_ms",
        "`120000`",
        "how long a boot may take to read what was shipped. The host does not run without it",
    ),
    derived(
        "workspaces",
        "`true`",
        "whether the workspaces of agents are shipped as well, each at the end of an incarnation that changed it, see \
         [operating.md](operating.md#workspaces-that-travel)",
    ),
    derived(
        "workspace_mb",
        "`64`",
        "files of a workspace that are shipped, in MiB. A larger one stays on this machine, which \
         `agent.workspace_not_shipped` reports. All copies of the town have the same limit",
    ),
    derived("ca_file", "none", "PEM file with the CA certificates to trust instead of the public CAs"),
    derived("region", "`AWS_REGION`, else `us-east-1`", "for `s3://`: the region of the bucket"),
    derived(
        "endpoint",
        "`AWS_ENDPOINT_URL`, else AWS",
        "for `s3://`: URL of a server that speaks S3",
    ),
    derived("access_key_id", "`AWS_ACCESS_KEY_ID`", "for `s3://`: names the key"),
    derived("secret_access_key", "`AWS_SECRET_ACCESS_KEY`", "for `s3://`: the key, [a secret](#secrets)"),
    derived("secret_access_key_file", "none", "file that holds the key"),
    derived("username", "none", "for `nats://`: the user"),
    derived("password", "none", "for `nats://`: the user's password, [a secret](#secrets)"),
    derived("password_file", "none", "file that holds the password"),
    derived("token", "none", "for `nats://`: a token in place of a user, [a secret](#secrets)"),
    derived("token_file", "none", "file that holds the token"),
    derived(
        "credentials_file",
        "none",
        "for `nats://`: a credentials file (`.creds`) with the JWT and the seed of a user, or a file with a seed (nkey) alone",
    ),
];
