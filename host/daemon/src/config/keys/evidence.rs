//! `[evidence]`.

use toml::Spanned;

use super::super::file::FromEnvironment;
use super::{Key, Read, derived, key};

pub const EVIDENCE: &[Key] = &[
    derived(
        "sink",
        "none: evidence stays on the disk",
        "where the evidence of a run goes that a later run needs on an empty disk, see [operating.md](operating.md#evidence): \
         `https://host/path` (documents by `PUT` and `GET` below it), `s3://bucket/prefix` (S3, or what speaks it), or \
         `file:///directory` (another volume; the directory must exist). The variable discards the file's token and keys, \
         which belong to another sink",
    )
    .text("BULKHEAD_EVIDENCE_SINK", |file, text| {
        let evidence = &mut file.evidence;
        evidence.sink = Some(Spanned::new(0..0, text));
        (evidence.token, evidence.token_file) = (None, None);
        (evidence.secret_access_key, evidence.secret_access_key_file) = (None, None);
        evidence.access_key_id = None;
        Ok(())
    }),
    derived(
        "name",
        "`town.id`",
        "names the container at the sink, over all its runs and disks: 1 to 128 characters of `A-Z a-z 0-9 . _ -`, the first no dot. Two \
         containers that run at the same time need two names",
    )
    .text("BULKHEAD_EVIDENCE_NAME", |file, text| {
        file.evidence.name = Some(Spanned::new(0..0, text));
        Ok(())
    }),
    derived(
        "token",
        "none",
        "for `https://`: sent as `Authorization: Bearer`, [a secret](#secrets)",
    )
    .variable(
        "BULKHEAD_EVIDENCE_TOKEN",
        Read::Secret {
            credential: "bulkhead.evidence-token",
            set: |file, FromEnvironment { secret, file: of_file }| {
                let evidence = &mut file.evidence;
                (evidence.token, evidence.token_file) = match of_file {
                    Some(path) => (None, Some(Spanned::new(0..0, path))),
                    None => (Some(Spanned::new(0..0, secret)), None),
                };
                Ok(())
            },
        },
    ),
    derived("token_file", "none", "file that holds the token. It is read again while the host runs"),
    derived("ca_file", "none", "PEM file with the CA certificates to trust instead of the public CAs"),
    derived("region", "`AWS_REGION`, else `us-east-1`", "for `s3://`: the region of the bucket"),
    derived(
        "endpoint",
        "`AWS_ENDPOINT_URL`, else AWS",
        "for `s3://`: URL of a server that speaks S3, as of MinIO, Cloudflare R2 or Tigris",
    ),
    derived("access_key_id", "`AWS_ACCESS_KEY_ID`", "for `s3://`: names the key"),
    derived(
        "secret_access_key",
        "`AWS_SECRET_ACCESS_KEY`",
        "for `s3://`: the key, [a secret](#secrets). Without any the host asks the container's environment as AWS's own \
         tools do: a web identity (EKS), the task (ECS), the instance (EC2)",
    ),
    derived("secret_access_key_file", "none", "file that holds the key"),
    key(
        "heartbeat_ms",
        "10000",
        "interval between two digests of the black box. Crash records are stored at once",
    ),
    key(
        "fetch_ms",
        "2000",
        "how long a boot waits for what earlier runs left. Then it goes on with what the disk has, and says so",
    ),
    key("call_ms", "5000", "deadline of one document"),
];
