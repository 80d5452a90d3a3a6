//! `[lease]`.

use super::{Key, derived};

pub const LEASE: &[Key] = &[
    derived(
        "register",
        "none: this host is the only copy of its town",
        "where it is written which copy of the town runs, see [operating.md](operating.md#lease): \
         `file:///directory` (a directory that all copies share, on a filesystem with working locks; one that is not there is waited for), \
         `s3://bucket/prefix` (S3, or what speaks it and honours conditional writes), \
         `etcd://host:2379,host:2379/prefix` (`etcds://` with TLS; 2379 where no port is named), `kubernetes://namespace/prefix` (Lease objects, by the service \
         account of the pod; the prefix of their names is `bulkhead` by default), `nats://host:4222,host:4222/bucket` (`tls://` with \
         TLS; a key-value bucket of JetStream, which must exist). The variable discards the file's keys, which belong to \
         another register",
    )
    .text("BULKHEAD_LEASE_REGISTER", |file, text| {
        file.lease.move_to(text);
        Ok(())
    }),
    derived(
        "name",
        "`town.id`",
        "names the town in the register: 1 to 128 characters of `A-Z a-z 0-9 . _ -`, the first no dot. All copies of a town have the same name",
    ),
    derived(
        "advertise",
        "none",
        "where this copy is reached, for people: stored in the register and shown by copies that wait",
    ),
    derived(
        "ttl_ms",
        "`10000`",
        "how long the lease holds without a renewal, 2000 to 600000. The supervisor ends after 70 % of it, another copy begins \
         after 105 %. A request to the register may take a tenth of it. All copies need the same",
    ),
    derived("ca_file", "none", "PEM file with the CA certificates to trust instead of the public CAs"),
    derived("region", "`AWS_REGION`, else `us-east-1`", "for `s3://`: the region of the bucket"),
    derived(
        "endpoint",
        "`AWS_ENDPOINT_URL`, else AWS; the API server of the pod",
        "for `s3://`: URL of a server that speaks S3. For `kubernetes://`: URL of an API server, such as `kubectl proxy`",
    ),
    derived("access_key_id", "`AWS_ACCESS_KEY_ID`", "for `s3://`: names the key"),
    derived("secret_access_key", "`AWS_SECRET_ACCESS_KEY`", "for `s3://`: the key, [a secret](#secrets)"),
    derived("secret_access_key_file", "none", "file that holds the key"),
    derived("username", "none", "for `etcd://` and `nats://`: the user, where there are users"),
    derived("password", "none", "for `etcd://` and `nats://`: the user's password, [a secret](#secrets)"),
    derived("password_file", "none", "file that holds the password"),
    derived("token", "none", "for `nats://`: a token in place of a user, [a secret](#secrets)"),
    derived("token_file", "none", "file that holds the token"),
    derived(
        "credentials_file",
        "none",
        "for `nats://`: a credentials file (`.creds`) with the JWT and the seed of a user, or a file with a seed (nkey) alone",
    ),
];
